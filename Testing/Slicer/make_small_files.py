"""Makes a small network and five scans for the tests; run by the worker's Python, not Slicer's."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
# The worker's Python need not have medptq installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "MedPTQSlicer"))

from tiny_network import write_network, write_scan

SCANS = 5


def main(folder: Path) -> None:
    write_network(folder)
    for number in range(SCANS):
        write_scan(folder / "scans" / f"scan-{number}.nii.gz", seed=number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
