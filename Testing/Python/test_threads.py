"""Sharing planes among cores."""

from __future__ import annotations

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medptq.threads import in_shares


@given(count=st.integers(0, 40), cores=st.sampled_from([None, 1, 2, 3, 64]))
def test_every_plane_is_in_one_share_and_in_order(count: int, cores: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "cpu_count", lambda **_: cores)
        shares = in_shares(list, count)
    assert [plane for share in shares for plane in share] == list(range(count))
    assert len(shares) == max(1, min(cores or 1, 8, count))


def test_a_failure_in_a_share_is_told() -> None:
    def fail(share: range) -> None:
        if 3 in share:
            raise ValueError("plane 3")

    with pytest.raises(ValueError, match="plane 3"):
        in_shares(fail, 4)
