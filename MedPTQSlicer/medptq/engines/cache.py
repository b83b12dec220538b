"""Built networks, kept in the user's cache so that only the first run on a machine builds.

An entry is a blob, written once under a name of its own and never changed, and a small JSON file
that names it with its SHA-256. The JSON file is replaced in one step, so processes that build the
same network at the same time each leave a whole entry; the last one stays.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import uuid
from dataclasses import replace
from pathlib import Path

import onnx

from medptq.artifacts import atomic_file, sha256_of, write_json
from medptq.engines.built import BuiltFor, entries
from medptq.engines.memory import OUT_OF_MEMORY
from medptq.engines.protocol import BuildRequest, Engine, Session
from medptq.engines.selection import require_usable
from medptq.errors import EngineError
from medptq.graph.external_data import content_digest
from medptq.graph.loading import load_graph
from medptq.models.cache import cache_folder
from medptq.progress import Reporter

# Raised when engines build differently from the same request, so that old blobs are left alone.
_FORMAT = 3


def open_session(engine: Engine, request: BuildRequest, reporter: Reporter) -> Session:
    """Open a network on an engine, building it first where the cache does not hold it.

    A blob that does not match its checksum, or that the engine refuses, is built anew with a
    warning; it is never trusted. Nor is one that another machine or version built, in a cache
    that several share: it is left to that machine.

    Raises:
        EngineError: The engine is not usable here, or cannot build or open this network.
        ModelError: The file is no usable graph.
        OutputError: The cache cannot be written.
    """
    entry = cache_folder("engines") / f"{build_digest(engine, request)}.json"
    refused: Path | None = None
    if entry.exists():
        try:
            refused, digest = _read_entry(entry)
            if sha256_of(refused) == digest:
                return engine.open(request, refused)
        except EngineError as error:
            if error.code == OUT_OF_MEMORY:
                raise
        except (OSError, ValueError):
            pass
        reporter.warn(
            f"A network built for {engine.name} earlier is damaged, or was built for another "
            "machine or version; it is built again."
        )
    elif _is_built_elsewhere(engine, request):
        reporter.warn(
            f"What {engine.name} built of this network earlier is for another machine or version; "
            "it is built again for this one."
        )
    blob = _build(engine, request, entry, reporter)
    if refused is not None:
        with contextlib.suppress(OSError):
            refused.unlink()
    return engine.open(request, blob)


def build_digest(engine: Engine, request: BuildRequest) -> str:
    """Return a SHA-256 over all that decides what is built: graph, engine and machine.

    Raises:
        EngineError: The engine is not usable here.
        ModelError: The file is no usable graph.
    """
    availability = require_usable(engine)
    key = json.dumps(
        [
            _FORMAT,
            graph_digest(request.onnx),
            request.precision,
            request.input_shape,
            engine.name,
            availability.version,
            availability.hardware,
        ]
    )
    return hashlib.sha256(key.encode()).hexdigest()


def _is_built_elsewhere(engine: Engine, request: BuildRequest) -> bool:
    """Tell whether the cache holds this build, but for another machine or version."""
    mine = _built_for(engine, request)
    return any(
        replace(built, machine=mine.machine, version=mine.version) == mine
        for _, built in entries()
        if built != mine
    )


def _built_for(engine: Engine, request: BuildRequest) -> BuiltFor:
    graph = graph_digest(request.onnx)
    return BuiltFor.here(graph, engine.name, request.precision, request.input_shape)


def graph_digest(path: Path) -> str:
    """Return a SHA-256 over a network: the file, or the graph where other files hold its data.

    Raises:
        ModelError: The file is no usable graph.
    """
    try:
        digest = sha256_of(path)
        return digest if _is_whole(path, digest) else _content_digest(path)
    except OSError:  # load_graph tells the user what is wrong
        return _content_digest(path)


@functools.lru_cache(maxsize=64)
def _is_whole(path: Path, digest: str) -> bool:  # noqa: ARG001 - the digest is for the cache
    """Tell whether a file holds all of its network's data."""
    try:
        graph = onnx.load_model_from_string(path.read_bytes()).graph
    except OSError:
        raise
    except Exception:  # protobuf raises its own kinds; load_graph tells the user what is wrong
        return False
    return all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in graph.initializer)


def _content_digest(path: Path) -> str:
    return content_digest(load_graph(path))


def _read_entry(entry: Path) -> tuple[Path, str]:
    """Return the entry's blob and the SHA-256 that it must have."""
    try:
        content = json.loads(entry.read_text(encoding="utf-8"))
        name, digest = str(content["blob"]), str(content["sha256"])
    except (TypeError, KeyError) as error:
        raise ValueError(entry.name) from error
    if name != Path(name).name:
        raise ValueError(name)
    return entry.with_name(name), digest


def _build(engine: Engine, request: BuildRequest, entry: Path, reporter: Reporter) -> Path:
    blob = entry.with_name(f"{entry.stem}-{uuid.uuid4().hex[:8]}.blob")
    for _ in reporter.track([request], f"Building for {engine.name}"):
        with atomic_file(blob) as part:
            engine.build(request, part, reporter)
    content = {
        "blob": blob.name,
        "sha256": sha256_of(blob),
        "built_for": _built_for(engine, request).to_json(),
    }
    with atomic_file(entry, overwrite=True) as part:
        write_json(part, content)
    return blob
