from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from medptq.errors import OutputError
from medptq.models.cache import cache_root
from medptq.models.library import library_root

ROOTS = {"MEDPTQ_CACHE": cache_root, "MEDPTQ_LIBRARY": library_root}


@pytest.mark.parametrize("variable", ROOTS)
def test_the_user_may_name_the_folder(tmp_path, monkeypatch, variable):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "here")
    assert ROOTS[variable]() == tmp_path / "here"


@pytest.mark.parametrize("variable", ROOTS)
@pytest.mark.parametrize("chosen", ["", "~nobody-of-this-name/files"])
def test_without_a_home_folder_it_says_what_to_set(monkeypatch, variable, chosen):
    def no_home(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setenv(variable, chosen)
    for name in ("user_cache_path", "user_data_path"):
        monkeypatch.setattr(platformdirs, name, no_home)
    with pytest.raises(OutputError, match=variable) as caught:
        ROOTS[variable]()
    assert caught.value.code == "output.unwritable"
