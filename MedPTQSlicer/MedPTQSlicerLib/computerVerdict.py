"""The environment check's verdict: green, amber or red, why, and the one thing that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from medptq.errors import MedPTQError
from medptq.installation.facts import Facts
from MedPTQSlicerLib.installErrors import FROZEN, InstallationError, requireInstallable
from MedPTQSlicerLib.requirements import OLDEST_PYTHON, Unmet, isOldPython, lackLine
from MedPTQSlicerLib.workerLaunch import WorkerPython

Light: TypeAlias = Literal["green", "amber", "red"]
Mend: TypeAlias = Literal["install", "pytorch", "slicersPython"]
Answer: TypeAlias = Mapping[str, Any]

ENOUGH_MEMORY_GB = 4.0
"""Free memory that a whole head or a sliding window needs; see the README's measurements."""

ENOUGH_DISK_GB = 2.0
"""Free space for downloads, exported networks and engines."""


@dataclass(frozen=True)
class Verdict:
    """What the check found, for a person.

    Attributes:
        light: ``"green"``: fast and proved; ``"amber"``: it works, but; ``"red"``: it does not.
        line: What it is, in one line without a full stop.
        why: The cause; ``""`` where all is well.
        todo: What the user can do; ``""`` where there is nothing to do.
        mend: What the one button does, or None.
        also: What else is less than it could be; sentences.
    """

    light: Light
    line: str
    why: str = ""
    todo: str = ""
    mend: Mend | None = None
    also: tuple[str, ...] = ()


def verdictOfFacts(
    python: WorkerPython, facts: Facts, unmet: Sequence[Unmet], *, hasPyTorchExtension: bool
) -> Verdict | None:
    """Return what is wrong with a Python; None if the worker can be started in it.

    Args:
        python: The Python.
        facts: What it has.
        unmet: What it lacks.
        hasPyTorchExtension: Whether Slicer's PyTorch extension is installed.
    """
    if isOldPython(facts):
        return Verdict(
            "red",
            f"Python {facts.python} is too old",
            why=f"{python.path} is older than Python {'.'.join(map(str, OLDEST_PYTHON))}",
            todo=_otherwise(python),
            mend=_back(python),
        )
    if not unmet:
        return None
    line = lackLine(unmet)
    fixed = next((each for each in unmet if each.name in FROZEN and each.installed), None)
    if fixed is not None:
        return Verdict(
            "red",
            f"{fixed.title} {fixed.installed} is too old",
            why=f"{fixed.requirement} is needed, and {fixed.title} is never changed by this"
            " extension, as Slicer and other extensions are built for the one that is there",
            todo=_otherwise(python),
            mend=_back(python),
        )
    try:
        requireInstallable(python, facts)
    except InstallationError as error:
        return Verdict("red", line, why=error.why, todo=error.todo, mend=_back(python))
    them = "it" if len(unmet) == 1 else "them"
    why = f"the networks cannot run without {them}"
    if python.isSlicers and hasPyTorchExtension and any(each.name == "torch" for each in unmet):
        first = (
            "Install PyTorch first: Slicer's PyTorch extension chooses the build for this computer"
        )
        return Verdict("red", line, why=why, todo=f"{first}, and asks you", mend="pytorch")
    todo = f"Install {them}; you are shown exactly what changes, and asked, first"
    return Verdict("red", line, why=why, todo=todo, mend="install")


def verdictOfDoctor(answer: Answer) -> Verdict:
    """Return the verdict on what the worker's ``doctor`` has found.

    Args:
        answer: Its answer, see :func:`medptq.answers.doctor_answer`.
    """
    best = _bestWay(answer)
    if best is None:
        reasons = "; ".join(_brokenLines(answer)) or "none is installed"
        return Verdict(
            "red",
            "No engine works on this computer",
            why=reasons,
            todo="Copy the diagnostics and report it, or choose another Python below",
        )
    engine, proof = best
    line = (
        f"{proof['precision'].upper()} on the {_device(engine)} with {_title(engine)},"
        f" proved in {_milliseconds(proof['milliseconds'])};"
        f" {_gigabytes(answer['machine']['free_memory_gb'])} of memory free"
    )
    concerns = list(_concerns(answer))
    if not concerns:
        return Verdict("green", line)
    but, why, todo = concerns[0]
    also = tuple(f"{what}: {cause}. {cure}." for what, cause, cure in concerns[1:])
    return Verdict("amber", f"{but}; {line}", why=why, todo=todo, also=also)


def verdictOfError(error: MedPTQError, python: WorkerPython | None) -> Verdict:
    """Return the verdict on a check that failed."""
    return Verdict("red", error.what, why=error.why, todo=error.todo, mend=_back(python))


def _concerns(answer: Answer) -> Iterator[tuple[str, str, str]]:
    """Yield what is less than it could be, the most important first: what, why, what to do."""
    machine = answer["machine"]
    broken = list(_brokenLines(answer))
    if broken:
        yield (
            "An engine does not work here",
            "; ".join(broken),
            "The others are used; copy the diagnostics and report it",
        )
    if machine["free_memory_gb"] < ENOUGH_MEMORY_GB:
        yield (
            "Little memory is free",
            f"{_gigabytes(machine['free_memory_gb'])} of {_gigabytes(machine['memory_gb'])} is"
            " free, and large scans may not fit",
            "Close other programs before you calibrate or segment",
        )
    if machine["free_disk_gb"] < ENOUGH_DISK_GB:
        yield (
            "Little space is left on the disk",
            f"{_gigabytes(machine['free_disk_gb'])} is free where models and engines are kept",
            "Clear the cache under Model, or free some space",
        )
    precisions = [proof["precision"] for _, proof in _provedWays(answer)]
    if "int8" not in precisions:
        used = "FP16" if "fp16" in precisions else "FP32"
        yield (
            "No INT8 engine is native here",
            f"{machine['cpu']} has no engine that computes 3D networks in INT8",
            f"Networks run in {used}; INT8 needs an Intel or AMD processor, or TensorRT on an"
            " NVIDIA GPU",
        )
    yield from _gpuConcerns(answer)


def _gpuConcerns(answer: Answer) -> Iterator[tuple[str, str, str]]:
    gpus = [gpu["name"] for gpu in answer["machine"]["gpus"]]
    if not gpus:
        return
    if not any(_device(engine) == "GPU" for engine, _ in _provedWays(answer)):
        yield (
            f"The {gpus[0]} is not used",
            "PyTorch here is built for CPUs, or the GPU's driver is older than it needs",
            "Update the driver, or install the PyTorch build for it with Slicer's PyTorch"
            " extension",
        )
        return
    tensorrt = next(engine for engine in answer["engines"] if engine["name"] == "tensorrt")
    if not tensorrt["availability"]["usable"]:
        yield (
            f"The {gpus[0]} is used without TensorRT",
            tensorrt["availability"]["reason"],
            "Nothing has to be done: the fastest way that works is measured and used",
        )


def _bestWay(answer: Answer) -> tuple[Answer, Answer] | None:
    """Return the proved engine and precision to name: INT8 if there is one, by default engine."""
    ways = list(_provedWays(answer))
    return min(
        ways,
        key=lambda way: (way[1]["precision"] != "int8", way[0]["name"] != answer["default"]),
        default=None,
    )


def _provedWays(answer: Answer) -> Iterator[tuple[Answer, Answer]]:
    for engine in answer["engines"]:
        for proof in engine["proofs"]:
            if proof["verdict"] == "ok":
                yield engine, proof


def _brokenLines(answer: Answer) -> Iterator[str]:
    for engine in answer["engines"]:
        for proof in engine["proofs"]:
            if proof["verdict"] != "ok":
                yield f"{_title(engine)} at {proof['precision'].upper()}: {proof['reason']}"


def _device(engine: Answer) -> str:
    return "GPU" if engine["availability"]["on_gpu"] else "CPU"


def _title(engine: Answer) -> str:
    titles = {"openvino": "OpenVINO", "pytorch": "PyTorch", "tensorrt": "TensorRT"}
    version = engine["availability"]["version"].partition("-")[0]
    return f"{titles.get(engine['name'], engine['name'])} {version}".strip()


def _otherwise(python: WorkerPython) -> str:
    if python.isSlicers:
        return "Use Slicer 5.10 or newer, or choose another Python below"
    return "Use Slicer's Python, or choose another one below"


def _back(python: WorkerPython | None) -> Mend | None:
    return None if python is None or python.isSlicers else "slicersPython"


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _gigabytes(value: float) -> str:
    return f"{value:.1f} GB" if value < 10 else f"{value:.0f} GB"
