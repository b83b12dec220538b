"""The digest of a file is of what is in it now, however often it was asked for before."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from medptq.artifacts import sha256_of


def age(path: Path) -> None:
    """Let the file look as if it had been there for long; its inode's own clock cannot be set."""
    os.utime(path, (time.time() - 100, time.time() - 100))


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_file_that_changes_within_the_same_moment_is_read_again(tmp_path):
    path = tmp_path / "a"
    for number in range(20):
        expected = write(path, b"%03d" % number)
        assert sha256_of(path) == expected


@pytest.mark.parametrize("how", ["written", "replaced", "put back with its old time"])
def test_a_file_that_has_settled_is_read_again_if_it_changed(tmp_path, monkeypatch, how):
    monkeypatch.setattr("medptq.artifacts._SETTLED_NS", -(10**12))  # everything has settled
    path, other = tmp_path / "a", tmp_path / "b"
    write(path, b"one")
    age(path)
    first = sha256_of(path)
    assert sha256_of(path) == first
    time.sleep(0.02)  # a tick of the clock that files are stamped by
    if how == "written":
        expected = write(path, b"two")
    else:
        expected = write(other, b"two")
        if how != "replaced":
            age(other)
        other.replace(path)
    assert sha256_of(path) == expected != first
