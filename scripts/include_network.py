"""Put a network that train_network.py trained into the program, as one that comes with it.

    python scripts/include_network.py brain-regions-t1 --trained trained

takes ``trained/ixi2mm_dlmuse-nnunet-small/`` and writes, into ``MedPTQSlicer/medptq/models/``,
``networks/brain-regions-t1.pth`` (the weights, byte by byte), ``networks/…training.json`` (how they
came about) and ``catalogue/brain-regions-t1.json``. The terms of the weights are written by hand:
``networks/brain-regions-t1.LICENSE.txt`` has to be there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medptq.artifacts import atomic_file, sha256_of, write_json
from medptq.models import catalogue
from medptq.models.architectures.weighted import build_with_weights
from medptq.models.card import model_of
from medptq.models.checkpoint import network_of

MODELS = Path(catalogue.__file__).parent
MOST_BYTES = 8_000_000


@dataclass(frozen=True)
class Included:
    """What is said of a network that comes with the program, beside what its card said.

    Attributes:
        job: The name under which it was trained.
        data: What it was trained on, to end a sentence with.
        card: Fields that differ from those of the trained network's card.
    """

    job: str
    data: str
    card: Mapping[str, Any] = field(default_factory=dict)


INCLUDED = {
    "brain-regions-t1": Included(
        "ixi2mm_dlmuse-nnunet-small",
        "heads of IXI (brain-development.org) with labels that the network DLMUSE made "
        "(github.com/CBICA/NiChart_Project)",
        {
            "title": "Brain regions (T1)",
            # On the test split it changes nothing; heads of another kind have a speck at the chin.
            "postprocessing": [
                {"step": "largest_component", "labels": [1, 4, 6], "connectivity": "corners"}
            ],
            "licence": "CC BY-SA 3.0 and SBIA Agreement 1.1, for research (its terms: "
            "brain-regions-t1.LICENSE.txt)",
            "citation": "IXI data set, brain-development.org; Bashyam VM et al. DLMUSE: Robust "
            "Brain Segmentation in Seconds Using Deep Learning. Radiology: Artificial Intelligence "
            "(2025). https://doi.org/10.1148/ryai.240299",
        },
    ),
    "hippocampus-t1": Included(
        "hippocampus-nnunet-small",
        "boxes around a hippocampus of the Medical Segmentation Decathlon (medicaldecathlon.com)",
        {
            "title": "Hippocampus (T1)",
            "licence": "CC BY-SA 4.0",
            "citation": "Antonelli M et al. The Medical Segmentation Decathlon. Nature "
            "Communications 13 (2022) 4128. https://doi.org/10.1038/s41467-022-30695-9; Simpson AL "
            "et al. arXiv:1902.09063 (2019)",
        },
    ),
}


def include(model_id: str, trained: Path, models: Path = MODELS) -> None:
    """Write the files of a network that comes with the program.

    Args:
        model_id: One of :data:`INCLUDED`.
        trained: The folder that train_network.py wrote into.
        models: The folder with the folders ``networks`` and ``catalogue``.

    Raises:
        MedPTQError: The weights are not those of the network on the card.
        SystemExit: They are too large, or their terms are not there.
    """
    what = INCLUDED[model_id]
    folder, networks = trained / what.job, models / "networks"
    weights = folder / f"{what.job}.pth"
    if weights.stat().st_size >= MOST_BYTES:
        raise SystemExit(f"{weights} is larger than {MOST_BYTES / 1e6:.0f} MB")
    if not (networks / f"{model_id}.LICENSE.txt").is_file():
        raise SystemExit(f"{networks} lacks {model_id}.LICENSE.txt")
    card = _read(folder / f"{what.job}.json")
    record = _read(folder / "training.json")
    record["command"] = _without_paths(record["command"])
    entry = {**card, "id": model_id, **what.card, "source": _source(what, record)}
    model = model_of(entry, Path(), model_id)
    build_with_weights(*network_of(entry, model, model_id), weights)
    file = f"{model_id}.pth"
    with atomic_file(networks / file, overwrite=True) as part:
        shutil.copyfile(weights, part)
    own = {
        "format": "checkpoint",
        "role": "model",
        "download": {
            "kind": "included",
            "file": file,
            "sha256": sha256_of(networks / file),
            "size_mb": round(weights.stat().st_size / 1e6, 1),
        },
    }
    for path, content in (
        (networks / f"{model_id}.training.json", record),
        (models / "catalogue" / f"{model_id}.json", entry | own),
    ):
        with atomic_file(path, overwrite=True) as part:
            write_json(part, content)


def _source(what: Included, record: Mapping[str, Any]) -> str:
    pairs, dice = record["pairs"], record["dice"]["test"]["mean"]
    return (
        f"Trained by this project on {pairs['train']} {what.data}, on {record['date']}: "
        f"{record['command']} ({record['steps']} steps). Mean Dice on {pairs['test']} others: "
        f"{dice:.3f}"
    )


def _without_paths(command: str) -> str:
    """Return a command as it is typed in the repository's folder, wherever it was typed."""
    command = re.sub(r"\S*/(?=train_network\.py)", "scripts/", command)
    command = re.sub(r"(?<=--data )\S+", "../shared/data", command)
    return re.sub(r"(?<=--output )\S+", "trained", command)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("id", choices=INCLUDED)
    parser.add_argument("--trained", type=Path, required=True, help="what train_network.py wrote")
    options = parser.parse_args()
    include(options.id, options.trained)


if __name__ == "__main__":
    main()
