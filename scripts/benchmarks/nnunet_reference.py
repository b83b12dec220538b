"""Segments scans with nnU-Net's own predictor: run by nnunet_parity.py, in nnU-Net's Python.

Takes one argument, a JSON file with ``model`` (the model folder), ``fold``, ``checkpoint``,
``scans`` (files) and ``output`` (a folder), and writes there a label map for each scan and
``seconds.json``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for name in ("raw", "preprocessed", "results"):  # it complains where they are not set
        os.environ.setdefault(f"nnUNet_{name}", job["output"])
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(
        job["model"], use_folds=(job["fold"],), checkpoint_name=job["checkpoint"]
    )
    files = predictor.plans_manager.image_reader_writer_class()
    seconds = {}
    for number, scan in enumerate([job["scans"][0], *job["scans"]]):  # the first warms up
        image, properties = files.read_images([scan])
        started = time.perf_counter()
        labels = predictor.predict_single_npy_array(image, properties)
        name = Path(scan).name.removesuffix(".nii.gz")
        if number > 0:
            seconds[name] = time.perf_counter() - started
            files.write_seg(labels, str(Path(job["output"]) / f"{name}.nii.gz"), properties)
    report = {
        "seconds": seconds,
        "versions": {name: version(name) for name in ("nnunetv2", "torch")},
        "threads": torch.get_num_threads(),
    }
    Path(job["output"], "seconds.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()
