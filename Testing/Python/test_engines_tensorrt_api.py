"""Every name of TensorRT that our code touches, on each version's real bindings, without a GPU.

NVIDIA's Python bindings are a small wheel of their own; the libraries that they are linked with
are gigabytes, and stand-ins that export the few symbols let them be imported. What the code names
is read from its syntax tree, so a name that is new to it is checked without being listed here.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pytest

ENGINES = Path(__file__).resolve().parents[2] / "MedPTQSlicer" / "medptq" / "engines"
SOURCES = sorted(ENGINES.glob("tensorrt*.py"))

# About 1 MB each.
WHEELS = {
    8: "tensorrt-bindings==8.6.1",
    10: "tensorrt-cu12-bindings==10.16.1.11",
    11: "tensorrt-cu13-bindings==11.4.0.106",
}

# What the code calls TensorRT's objects, and of which class they are.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "timings": "ITimingCache",
    "inspector": "EngineInspector",
    "flags": "NetworkDefinitionCreationFlag",
    "self._runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
    "context": "IExecutionContext",
    "parser.get_error()": "ParserError",
    "network.get_output()": "ITensor",
    "operation": "ILayer",
    "config.get_timing_cache()": "ITimingCache",
}

# What only some versions have; the code asks before it touches these.
ONLY_IN = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": {8, 10},
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": {10, 11},
    "BuilderFlag.FP16": {8, 10},
    "BuilderFlag.INT8": {8, 10},
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": {8, 10},
    "ILayer.precision": {8, 10},
    "ILayer.set_output_type": {8, 10},
    "ICudaEngine.device_memory_size": {8, 10},
    "ICudaEngine.device_memory_size_v2": {10, 11},
    "IBuilderConfig.progress_monitor": {10, 11},
    "IProgressMonitor": {10, 11},
    "IProgressMonitor.__init__": {10, 11},
}

STAND_INS = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")
SYMBOLS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL"),
    *("getBuilderPluginRegistry", "getPluginRegistry", "getNvOnnxParserVersion"),
    "initLibNvInferPlugins",
    # TensorRT 8's readers of other formats.
    *("_ZN11nvuffparser15createUffParserEv", "_ZN11nvuffparser23shutdownProtobufLibraryEv"),
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    *("_ZN14nvcaffeparser117createCaffeParserEv", "_ZN14nvcaffeparser123shutdownProtobufLibraryEv"),
)

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64") or not shutil.which("cc"),
        reason="the stand-ins are compiled for Linux on x86_64, with cc",
    ),
]


# What the code touches.


@dataclass(frozen=True)
class Use:
    """A name of TensorRT's in our code.

    Attributes:
        name: ``Class``, ``Class.member`` or a function of the module.
        where: File and line.
        arguments: How many it is called with; None if it is not called.
        keywords: The names of those that are given by name.
    """

    name: str
    where: str
    arguments: int | None = None
    keywords: tuple[str, ...] = ()


def uses() -> list[Use]:
    return [use for path in SOURCES for use in _uses_in(path)]


def _uses_in(path: Path) -> Iterator[Use]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        name = _name_in_tensorrt(node)
        if name is not None:
            call = called.get(id(node))
            yield Use(
                name,
                f"{path.name}:{node.lineno}",
                None if call is None else len(call.args),
                () if call is None else tuple(f"{word.arg}" for word in call.keywords),
            )


def _name_in_tensorrt(node: ast.Attribute) -> str | None:
    owner = re.sub(r"\([^()]*\)", "()", ast.unparse(node.value))
    if owner == "trt":
        return node.attr
    if owner.startswith("trt."):
        return f"{owner[4:]}.{node.attr}"
    return f"{CLASSES[owner]}.{node.attr}" if owner in CLASSES else None


def test_the_code_is_read():
    found = {use.name for use in uses()}
    assert {"Builder", "Runtime", "OnnxParser", "IBuilderConfig.set_timing_cache"} < found
    assert {"IExecutionContext.execute_async_v3", "EngineInspector.get_engine_information"} < found
    assert len(found) > 40


# The real bindings.


def _bindings(version: int) -> Path:
    """Return a folder with the version's bindings and stand-ins for its libraries."""
    folder = platformdirs.user_cache_path("medptq-tests", appauthor=False) / "tensorrt"
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    ready = folder / f"{WHEELS[version]}-{tag}"
    if not (ready / "ready").exists():
        wheels = folder / f"wheels-{os.getpid()}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(wheels), WHEELS[version]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            pytest.skip(f"{WHEELS[version]} cannot be had for this Python: {said}")
        [wheel] = wheels.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(ready)
        shutil.rmtree(wheels)
        code = "\n".join(f"int {symbol}(void) {{ return 0; }}" for symbol in SYMBOLS)
        (ready / "stand_in.c").write_text(code, encoding="utf-8")
        for name in STAND_INS:
            library = f"lib{name}.so.{version}"
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o"]
            command += [str(ready / "tensorrt_bindings" / library), str(ready / "stand_in.c")]
            subprocess.run(command, check=True, timeout=60)
        (ready / "ready").touch()
    return ready


def _run(version: int, code: str, *arguments: str) -> str:
    """Run code in a process of its own that can import this version as ``tensorrt``."""
    path = _bindings(version)
    begin = "import sys, tensorrt_bindings as trt; sys.modules['tensorrt'] = trt\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ENGINES.parents[1])])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


_DOCUMENTED = """
import json
found = {}
for name in json.loads(sys.argv[1]):
    value = trt
    for part in name.split("."):
        value = getattr(value, part, None)
        if value is None:
            break
    else:
        made = value.__init__ if isinstance(value, type) else value
        found[name] = getattr(made, "__doc__", "") or ""
print(json.dumps(found))
"""


@pytest.mark.parametrize("version", WHEELS)
def test_each_name_and_signature_is_there(version):
    wanted = uses()
    names = sorted({use.name for use in wanted if not use.name.endswith(".__init__")})
    found = json.loads(_run(version, _DOCUMENTED, json.dumps(names)))
    missing = [
        f"{use.where}: {use.name}"
        for use in wanted
        if use.name in names
        and use.name not in found
        and version in ONLY_IN.get(use.name, set(WHEELS))
    ]
    assert not missing
    for name, versions in ONLY_IN.items():
        if name in names:
            assert (name in found) == (version in versions), f"{name} in TensorRT {version}"
    wrong = [
        f"{use.where}: {use.name} takes {found[use.name].splitlines()[0]}"
        for use in wanted
        if use.arguments is not None and use.name in found and not _takes(found[use.name], use)
    ]
    assert not wrong


def _takes(documentation: str, use: Use) -> bool:
    """Tell whether one of a function's signatures, as pybind11 writes them, allows a call."""
    signatures = re.findall(r"\w+\((.*?)\) -> ", documentation)
    return not signatures or any(_allows(signature, use) for signature in signatures)


def _allows(signature: str, use: Use) -> bool:
    # Commas within brackets belong to a parameter's type.
    flat = re.sub(r"\[[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\]", "", signature)
    parameters = [part.strip() for part in flat.split(",") if part.strip()]
    parameters = [part for part in parameters if part.split(":")[0] not in ("self", "/", "*")]
    if any(part.startswith("*") for part in parameters):  # *args: pybind11 tells no more
        return True
    names = [part.split(":")[0].strip() for part in parameters]
    required = sum("=" not in part for part in parameters)
    given = (use.arguments or 0) + len(use.keywords)
    return required <= given <= len(parameters) and set(use.keywords) <= set(names)


def test_a_call_with_too_many_arguments_would_be_found():
    text = "parse(self: x.OnnxParser, model: typing.Buffer, path: str = None) -> bool\n"
    assert _takes(text, Use("OnnxParser.parse", "", 1))
    assert _takes(text, Use("OnnxParser.parse", "", 1, ("path",)))
    assert not _takes(text, Use("OnnxParser.parse", "", 0))
    assert not _takes(text, Use("OnnxParser.parse", "", 3))
    assert not _takes(text, Use("OnnxParser.parse", "", 1, ("where",)))


_OURS = """
import types
from medptq.engines import tensorrt_building as building, tensorrt_library as library
from medptq.engines import tensorrt_profile as profile
from medptq.progress import Reporter

flag = trt.NetworkDefinitionCreationFlag
wanted = {int(getattr(flag, name)) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED")
          if hasattr(flag, name)}
assert building._creation_flags(trt) == sum(1 << bit for bit in wanted)
assert library.version_of(trt) >= library.OLDEST

logger = library.log(trt)
logger.log(trt.ILogger.WARNING, "a warning")
logger.log(trt.ILogger.ERROR, "an error")
assert logger.errors == ["an error"], logger.errors

profiler = profile._profiler(trt)()
profiler.report_layer_time("a layer", 1.5)
assert profiler.times == {"a layer": [1.5]}

if library.is_strongly_typed(trt):
    stop, stages = [], []
    reporter = Reporter(on_progress=stages.append, cancelled=lambda: bool(stop))
    monitor = building._monitor(trt)(reporter)
    monitor.phase_start("Building", None, 4)
    monitor.phase_start("Tactics", "Building", 9)
    assert monitor.step_complete("Tactics", 3) is True
    assert monitor.step_complete("Building", 1) is True
    stop.append(1)
    assert monitor.step_complete("Building", 2) is False
    monitor.phase_finish("Building")
    assert [(stage.done, stage.total) for stage in stages] == [(2, 4), (3, 4)]
else:
    set_ = []
    output = types.SimpleNamespace(dtype=trt.float32)
    config = types.SimpleNamespace(
        set_flag=set_.append, set_tactic_sources=lambda bits: set_.append(bits))
    kinds = {}
    class Layer:
        precision = None
        def __init__(self, name):
            self.name = name
        def set_output_type(self, index, kind):
            kinds[self.name] = kind
    layers = [Layer("norm/mean/in-fp32"), Layer("norm/normal")]
    network = types.SimpleNamespace(
        get_output=lambda index: output, num_layers=2, get_layer=lambda index: layers[index])
    building._allow(trt, config, network, "int8")
    flags = trt.BuilderFlag
    assert set_[:3] == [flags.FP16, flags.OBEY_PRECISION_CONSTRAINTS, flags.INT8]
    assert output.dtype == trt.float16
    assert [layer.precision for layer in layers] == [trt.float32, None]
    assert kinds == {"norm/mean/in-fp32": trt.float32}
print("done")
"""


@pytest.mark.parametrize("version", WHEELS)
def test_what_we_make_of_its_classes_works(version):
    assert _run(version, _OURS) == "done\n"
