"""What other libraries' errors say, as a part of our sentences."""

from __future__ import annotations

import pytest

from medptq.errors import first_line, last_line


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("It failed.", "It failed", "It failed"),
        (
            "\n  Check failed:\nsrc/a.cpp:7\n It is too large.\n\n",
            "Check failed",
            "It is too large",
        ),
        ("", "ValueError", "ValueError"),
        (" \n ", "ValueError", "ValueError"),
        ("x" * 1000, "x" * 300, "x" * 300),
    ],
)
def test_a_line_of_an_error_fits_into_a_sentence(text: str, first: str, last: str) -> None:
    error = ValueError(text)
    assert (first_line(error), last_line(error)) == (first, last)
