"""How much memory this process has needed at most."""

from __future__ import annotations

import sys
from pathlib import Path

_MB = 1e6


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process since it started, in MB (10^6 bytes).

    The peak never falls, so whatever is to be compared must run in a fresh process of its own.
    """
    if sys.platform == "linux":
        # Not ru_maxrss: Linux carries the parent's figure over fork and exec, so a child of a
        # large process would seem large itself.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        peak = int(line.split()[1]) * 1024
    elif sys.platform == "win32":
        import psutil

        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return peak / _MB
