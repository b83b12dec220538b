"""What the environment check makes of what it found."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from medptq.answers import doctor_answer
from medptq.engines.doctor import Diagnosis, EngineDiagnosis, Proof
from medptq.engines.machine import Machine
from medptq.engines.protocol import Availability
from medptq.errors import MedPTQError
from medptq.installation.facts import Facts, facts
from medptq.installation.nvidia import Gpu
from MedPTQSlicerLib.computerVerdict import (
    Verdict,
    verdictOfDoctor,
    verdictOfError,
    verdictOfFacts,
)
from MedPTQSlicerLib.requirements import loadRequirements, unmetRequirements
from MedPTQSlicerLib.workerLaunch import WorkerPython

SLICERS = WorkerPython(Path("/slicer/bin/PythonSlicer"), isSlicers=True)
FOREIGN = WorkerPython(Path("/env/bin/python"), isSlicers=False)
GPU = Gpu("NVIDIA RTX A4000", "550.54", 16376, 12000)

COMPLETE = {
    "numpy": "2.4.6",
    "simpleitk": "2.5.5",
    "torch": "2.13.0+cpu",
    "openvino": "2026.4.1",
    "monai": "1.6.1",
    "onnx": "1.23.2",
    "onnx-ir": "1.1.0",
    "pip": "26.3",
    "einops": "0.8.2",
    "fastjsonschema": "2.22.3",
    "jinja2": "3.1.6",
    "packaging": "26.3",
    "pillow": "13.0.0",
    "platformdirs": "4.14.7",
    "psutil": "7.2.2",
    "pydicom": "3.0.2",
    "requests": "2.34.2",
    "rich": "15.0.0",
    "scipy": "1.17.1",
}
NEEDED = len(COMPLETE) - 1  # pip installs, and is not counted


def _facts(without: tuple[str, ...] = (), **changed: Any) -> Facts:
    environment = {
        **facts().environment,
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    values: dict[str, Any] = {
        "python": "3.12.10",
        "executable": "/env/bin/python",
        "prefix": "/env",
        "kind": "venv",
        "externally_managed": False,
        "site_packages": "/env/lib/site-packages",
        "writable": True,
        "free_disk_gb": 100.0,
        "packages": {name: v for name, v in COMPLETE.items() if name not in without},
        "environment": environment,
        "system": "Linux",
        "gpus": (),
        **changed,
    }
    return Facts(**values)


def _of(python: WorkerPython, found: Facts, extension: bool = False) -> Verdict | None:
    unmet = unmetRequirements(found, loadRequirements())
    return verdictOfFacts(python, found, unmet, hasPyTorchExtension=extension)


def test_a_complete_python_is_given_to_the_doctor() -> None:
    assert _of(SLICERS, _facts()) is None
    assert _of(FOREIGN, _facts(kind="plain", writable=False)) is None  # it need not be changed


@pytest.mark.parametrize(
    ("python", "found", "extension", "line", "reason", "mend"),
    [
        (SLICERS, _facts(("torch",)), False, "PyTorch is missing", "run without it", "install"),
        (SLICERS, _facts(("torch",)), True, "PyTorch is missing", "without it", "pytorch"),
        (FOREIGN, _facts(("torch",)), True, "PyTorch is missing", "without it", "install"),
        (SLICERS, _facts(("monai",)), True, "MONAI is missing", "without it", "install"),
        (
            SLICERS,
            _facts(("torch", "monai", "openvino", "rich")),
            False,
            "4 packages are missing: PyTorch, OpenVINO, MONAI and 1 more",
            "without them",
            "install",
        ),
        (
            SLICERS,
            _facts(packages={**COMPLETE, "torch": "2.4.1"}),
            False,
            "PyTorch 2.4.1 is not >=2.6",
            "without it",
            "install",
        ),
        (
            SLICERS,
            _facts(("monai",), packages={**COMPLETE, "numpy": "1.25.0"}),
            False,
            "NumPy 1.25.0 is too old",
            "never changed",
            None,
        ),
        (FOREIGN, _facts(python="3.9.18"), False, "Python 3.9.18 is too old", "3.10", "back"),
        (FOREIGN, _facts(("torch",), kind="plain"), False, "PyTorch", "other programs", "back"),
        (
            FOREIGN,
            _facts(("torch",), kind="conda", externally_managed=True),
            False,
            "PyTorch",
            "belongs to the system",
            "back",
        ),
        (SLICERS, _facts(("torch",), writable=False), False, "PyTorch", "written to", None),
        (FOREIGN, _facts(("torch", "pip")), False, "PyTorch", "no pip", "back"),
        (
            FOREIGN,
            _facts(packages={"pip": "21.2.4"}),
            False,
            f"{NEEDED} packages",
            "too old",
            "back",
        ),
    ],
)
def test_a_python_that_lacks_something_is_red_with_one_thing_to_do(
    python: WorkerPython, found: Facts, extension: bool, line: str, reason: str, mend: str | None
) -> None:
    verdict = _of(python, found, extension)
    assert verdict is not None
    assert verdict.light == "red"
    assert line in verdict.line
    assert reason in verdict.why
    assert verdict.todo
    assert verdict.mend == ("slicersPython" if mend == "back" else mend)


def test_arm_does_without_openvino() -> None:
    found = _facts(("openvino",))
    assert _of(SLICERS, found) is not None
    arm = {**found.environment, "platform_machine": "aarch64"}
    assert _of(SLICERS, _facts(("openvino",), environment=arm)) is None


def _tensorrt(*proofs: Proof, reason: str = "") -> EngineDiagnosis:
    precisions = tuple(proof.precision for proof in proofs)
    there = Availability(not reason, "" if reason else "10.13", "", precisions, reason, True)
    return EngineDiagnosis("tensorrt", there, proofs)


FP16 = (Proof("fp16", "ok", 1.0, 0.0, {"fp16": 3}), Proof("fp32", "ok", 2.0, 0.0, {"fp32": 3}))
NO_TENSORRT = _tensorrt(reason="TensorRT cannot be imported (No module named 'tensorrt')")
TENSORRT_INT8 = _tensorrt(Proof("int8", "ok", 0.05, 0.0, {"int8": 3}))


def _answer(
    *,
    openvino: tuple[Proof, ...] = (
        Proof("int8", "ok", 0.4321, 0.002, {"int8": 3}),
        Proof("fp32", "ok", 1.2, 0.0, {"fp32": 3}),
    ),
    pytorch: tuple[Proof, ...] = (Proof("fp32", "ok", 20.0, 0.0, {"fp32": 3}),),
    tensorrt: EngineDiagnosis = NO_TENSORRT,
    free: float = 12.4,
    disk: float = 50.0,
    gpus: tuple[Gpu, ...] = (),
) -> dict[str, Any]:
    def engine(name: str, version: str, proofs: tuple[Proof, ...]) -> EngineDiagnosis:
        precisions = tuple(proof.precision for proof in proofs)
        usable = bool(proofs)
        reason = "" if usable else "it cannot be imported"
        on_gpu = "fp16" in precisions
        availability = Availability(usable, version, "a CPU", precisions, reason, on_gpu)
        return EngineDiagnosis(name, availability, proofs)

    machine = Machine("Linux", "Some CPU", 8, 32.0, free, ("AVX2",), gpus, Path("/cache"), disk)
    version = "2026.4.1-22982-e213a147257-releases/2026/4"
    engines = (
        engine("openvino", version, openvino),
        engine("pytorch", "2.13.0+cpu", pytorch),
        tensorrt,
    )
    default = "openvino" if openvino else "pytorch"
    if tensorrt.availability.usable:
        default = "tensorrt"
    return doctor_answer(Diagnosis(machine, engines, default))


def test_all_well_is_green_in_one_line() -> None:
    verdict = verdictOfDoctor(_answer())
    assert verdict == Verdict(
        "green",
        "INT8 on the CPU with OpenVINO 2026.4.1, proved in 0.4 ms; 12 GB of memory free",
    )


@pytest.mark.parametrize(
    ("answer", "line", "why", "todo"),
    [
        (
            _answer(openvino=(Proof("fp32", "ok", 1.2, 0.0, {"fp32": 3}),)),
            "No INT8 engine is native here; FP32 on the CPU with OpenVINO 2026.4.1",
            "Some CPU",
            "Intel or AMD",
        ),
        (
            _answer(openvino=()),
            "No INT8 engine is native here; FP32 on the CPU with PyTorch 2.13.0+cpu",
            "Some CPU",
            "FP32",
        ),
        (
            _answer(openvino=(), pytorch=FP16, gpus=(GPU,)),
            "No INT8 engine is native here; FP16 on the GPU with PyTorch 2.13.0+cpu",
            "Some CPU",
            "Networks run in FP16; INT8 needs an Intel or AMD processor, or TensorRT",
        ),
        (
            _answer(
                openvino=(
                    Proof("int8", "wrong", 0.4, 0.3, {"int8": 3}, "its output differs by 30%"),
                    Proof("fp32", "ok", 1.2, 0.0, {"fp32": 3}),
                )
            ),
            "An engine does not work here; FP32 on the CPU",
            "OpenVINO 2026.4.1 at INT8: its output differs by 30%",
            "report it",
        ),
        (_answer(free=1.26), "Little memory is free; INT8", "1.3 GB of 32 GB", "Close"),
        (_answer(disk=0.5), "Little space is left on the disk; INT8", "0.5 GB", "cache"),
        (_answer(gpus=(GPU,)), "The NVIDIA RTX A4000 is not used; INT8", "driver", "PyTorch"),
        (
            _answer(gpus=(GPU,), pytorch=FP16),
            "The NVIDIA RTX A4000 is used without TensorRT; INT8 on the CPU",
            "TensorRT cannot be imported (No module named 'tensorrt')",
            "Nothing has to be done",
        ),
        (
            _answer(
                gpus=(GPU,),
                pytorch=FP16,
                tensorrt=_tensorrt(reason="TensorRT 8.4 is too old; install it anew"),
            ),
            "The NVIDIA RTX A4000 is used without TensorRT",
            "TensorRT 8.4 is too old",
            "Nothing",
        ),
        (
            _answer(
                gpus=(GPU,),
                pytorch=FP16,
                tensorrt=_tensorrt(Proof("int8", "failed", reason="it cannot be built")),
            ),
            "An engine does not work here; INT8 on the CPU with OpenVINO",
            "TensorRT 10.13 at INT8: it cannot be built",
            "The others are used",
        ),
    ],
)
def test_what_works_but_not_as_well_as_it_could_is_amber(
    answer: dict[str, Any], line: str, why: str, todo: str
) -> None:
    verdict = verdictOfDoctor(answer)
    assert verdict.light == "amber"
    assert verdict.line.startswith(line)
    assert why in verdict.why
    assert todo in verdict.todo


def test_the_gpu_with_tensorrt_is_green() -> None:
    verdict = verdictOfDoctor(_answer(gpus=(GPU,), pytorch=FP16, tensorrt=TENSORRT_INT8))
    assert verdict.light == "green"
    assert verdict.line.startswith("INT8 on the GPU with TensorRT 10.13, proved in 0.1 ms")
    # Nor does INT8 need an Intel or AMD processor then.
    arm = _answer(gpus=(GPU,), openvino=(), pytorch=FP16, tensorrt=TENSORRT_INT8)
    assert verdictOfDoctor(arm).light == "green"


def test_a_tensorrt_that_works_in_part_is_not_called_missing() -> None:
    tensorrt = _tensorrt(
        Proof("int8", "wrong", 0.1, 0.3, {"int8": 3}, "its output differs by 30%"),
        Proof("fp16", "ok", 0.1, 0.0, {"fp16": 3}),
    )
    verdict = verdictOfDoctor(_answer(gpus=(GPU,), pytorch=FP16, tensorrt=tensorrt))
    assert verdict.line.startswith("An engine does not work here; INT8 on the CPU with OpenVINO")
    assert verdict.also == ()


def test_the_rest_of_what_could_be_better_is_told_too() -> None:
    verdict = verdictOfDoctor(_answer(free=1.0, disk=0.5, gpus=(GPU,)))
    assert verdict.line.startswith("Little memory is free")
    assert [each.partition(":")[0] for each in verdict.also] == [
        "Little space is left on the disk",
        "The NVIDIA RTX A4000 is not used",
    ]


def test_no_engine_at_all_is_red() -> None:
    failed = (Proof("fp32", "failed", reason="OSError: a library is missing"),)
    verdict = verdictOfDoctor(_answer(openvino=(), pytorch=failed))
    assert verdict.light == "red"
    assert "PyTorch 2.13.0+cpu at FP32: OSError: a library is missing" in verdict.why
    assert verdict.todo


def test_a_check_that_fails_is_red_and_says_what_the_error_says() -> None:
    error = MedPTQError("start", "The worker did not start", why="it fell over", todo="Look")
    verdict = verdictOfError(error, FOREIGN)
    assert (verdict.line, verdict.why, verdict.todo) == (error.what, error.why, error.todo)
    assert verdict.mend == "slicersPython"
    assert verdictOfError(error, SLICERS).mend is None
    assert verdictOfError(error, None).mend is None


def test_texts_are_parts_of_sentences() -> None:
    answers = [_answer(), _answer(free=1.0), _answer(openvino=()), _answer(gpus=(GPU,))]
    verdicts = [verdictOfDoctor(copy.deepcopy(answer)) for answer in answers]
    verdicts += [found for found in [_of(SLICERS, _facts(("torch",)))] if found]
    for verdict in verdicts:
        for text in (verdict.line, verdict.why, verdict.todo):
            assert not text.endswith(".")
