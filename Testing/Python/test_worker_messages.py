"""Reading what may be anything, and what an error tells."""

from __future__ import annotations

import importlib
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medptq.errors import Cancelled, ScanError
from medptq.worker.log import open_log, where
from medptq.worker.messages import ProtocolError, Request, failure, notification, parse
from medptq.worker.params import check_params

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
METHODS = st.sampled_from(["load", "quantize", "segment", "compare", "cancel", "ping"])
NAMES = st.sampled_from(["model", "scan", "scans", "output", "recipe", "overwrite", "id", "x"])


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_a_request_or_is_refused(line):
    with suppress(ProtocolError):
        assert isinstance(parse(line), Request)


@given(METHODS, st.dictionaries(NAMES, JSON))
def test_params_are_as_they_should_be_or_are_refused(method, params):
    with suppress(ProtocolError):
        check_params(method, params)


@given(st.integers() | st.text(), st.text(), st.dictionaries(st.text(), JSON))
def test_a_request_is_read_as_it_was_written(request_id, method, params):
    params = json.loads(json.dumps(params).replace("NaN", "0").replace("Infinity", "0"))
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    assert parse(json.dumps(message).encode()) == Request(method, params, request_id)


@given(st.text())
def test_what_is_sent_is_one_line_of_ascii(text):
    line = notification("warning", id=1, text=text)
    assert line.isascii()
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    assert json.loads(line)["params"]["text"] == text


def test_an_error_of_the_program_keeps_its_code_and_its_words():
    error = ScanError("missing", "It was not read", why="it is not there", todo="Look elsewhere")
    answer = json.loads(failure(7, error))
    assert answer["id"] == 7
    assert answer["error"]["code"] == -32000
    assert answer["error"]["message"] == "It was not read: it is not there. Look elsewhere."
    assert answer["error"]["data"] == {
        "code": "scan.missing",
        "what": "It was not read",
        "why": "it is not there",
        "todo": "Look elsewhere",
    }
    assert json.loads(failure(7, Cancelled()))["error"]["code"] == -32800


def test_an_unexpected_fault_tells_its_kind_and_no_names(tmp_path):
    def read_scan():
        try:
            (tmp_path / "Doe^John.nii.gz").read_bytes()
        except OSError as error:
            raise RuntimeError("cannot read Doe^John") from error

    with pytest.raises(RuntimeError) as caught:
        read_scan()
    answer = failure(7, caught.value)
    assert json.loads(answer)["error"]["code"] == -32603
    assert b"RuntimeError" in answer
    assert b"Doe" not in answer
    log = open_log(tmp_path / "log.txt")
    log.error("%s", where(caught.value))
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "RuntimeError" in text
    assert "FileNotFoundError" in text
    assert "test_an_unexpected_fault" in text
    assert "Doe" not in text


def test_an_import_that_failed_tells_the_package(tmp_path, monkeypatch):
    (tmp_path / "wrapped").mkdir()
    (tmp_path / "wrapped" / "__init__.py").write_text(
        "try:\n    import wrapped.of_another_python\n"
        "except ImportError as error:\n    raise ImportError('Doe: good advice') from error\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as caught:
        importlib.import_module("wrapped")
    answer = json.loads(failure(7, caught.value))
    assert "(ImportError: wrapped)" in answer["error"]["message"]
    assert "Doe" not in json.dumps(answer)
    with pytest.raises(ImportError) as caught:
        raise ImportError("Doe")
    assert "(ImportError)" in json.loads(failure(7, caught.value))["error"]["message"]
