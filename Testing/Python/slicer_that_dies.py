"""A Slicer that calibrates until it is killed: run by a test, with the folders for it as arguments.

It prints the ids of its worker's processes when the calibration is under way. With a third argument
it is the next Slicer: it makes a job folder, and prints whether it removed what was left.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "MedPTQSlicer")]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import StandIn  # noqa: E402


def main(folder: Path, data: Path, is_next: bool) -> None:
    StandIn.begin(folder / "Slicer", main_window=False)
    import slicer

    from MedPTQSlicerLib.background import background
    from MedPTQSlicerLib.jobFolder import jobFolder
    from MedPTQSlicerLib.jobs import Job
    from slicer_worker import (
        LAUNCHER,
        LONG,
        is_calibrating,
        quantize,
        until,
        workers,
        write_program,
    )

    if is_next:
        temporary = Path(slicer.app.temporaryPath)
        with jobFolder() as made:
            print("removed" if list(temporary.glob("medptq-job-*")) == [made] else "left")
        return
    write_program(folder / "bin" / "PythonSlicer", LAUNCHER)
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.environ.pop("MEDPTQ_WORKER_PYTHON", None)
    os.environ["MEDPTQ_CACHE"] = str(folder / "cache")

    def steps():
        with jobFolder() as made:
            (made / "scan.nrrd").write_bytes(b"voxels")
            params = quantize(data, folder / "int8", **LONG)
            yield background().client.request("quantize", **params)

    job = background().run(Job("Calibrating", steps()))
    until(is_calibrating(job))
    print(*workers(), flush=True)
    until(lambda: False, 600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), len(sys.argv) > 3)
