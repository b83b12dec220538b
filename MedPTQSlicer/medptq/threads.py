"""Sharing the planes of a volume among the processor's cores."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psutil

# NumPy lets go of the interpreter's lock while it works on a plane, but takes it in between: more
# threads than this wait for each other more than they work.
_MOST_THREADS = 8

T = TypeVar("T")


def in_shares(work: Callable[[range], T], count: int) -> list[T]:
    """Split ``range(count)`` into unbroken shares and work on them at the same time.

    Args:
        work: Takes a share; may be called on several threads at once.
        count: How many there are to share.

    Returns:
        What ``work`` returned for each share, in order; one call where there is one core.
    """
    cores = psutil.cpu_count(logical=False) or 1
    shares = max(1, min(cores, _MOST_THREADS, count))
    edges = [count * n // shares for n in range(shares + 1)]
    ranges = [range(first, last) for first, last in itertools.pairwise(edges)]
    if shares == 1:
        return [work(ranges[0])]
    with ThreadPoolExecutor(shares) as pool:
        return list(pool.map(work, ranges))
