"""Train one of the networks of train_networks.py, which train.py lists and runs one after another.

    python scripts/train_network.py hippocampus-unet --data ../shared/data --output trained

writes ``trained/hippocampus-unet/``: the weights (``.pth``) and the card (``.json``) that
``medptq.load_model`` takes, and ``training.json``, which says how they came about.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from train_data import Volumes, draw_batch, prepared_volumes, read_pairs
from train_networks import JOBS, Job, card_of

import medptq
from medptq.artifacts import atomic_folder, write_json
from medptq.benchmarking.data_set import Pair
from medptq.engines.protocol import Session
from medptq.evaluate.metrics import dice
from medptq.inference.segmenting import segment_scan
from medptq.models.architectures.building import build_network
from medptq.models.card import model_of
from medptq.models.checkpoint import network_of
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter

_WARM_UP = 40  # steps
_TOLD_EVERY = 100  # steps


def train_job(
    job: Job,
    data: Path,
    output: Path,
    *,
    seconds: float,
    seed: int = 0,
    steps: int | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Train a network, measure it, write its folder ``output/<name>``, and return the report.

    Args:
        job: What to train.
        data: The folder with the data sets' folders.
        output: Where the network's folder shall lie; it appears whole or not at all.
        seconds: How long to train, without reading and measuring.
        seed: Decides weights, patches and augmentation.
        steps: How many steps to train, in place of ``seconds``, which give other steps each time.
        command: What was typed, for the report.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(seed)
    started = time.perf_counter()
    card = card_of(job)
    model = model_of(card, Path(), f"The card of {job.name}")
    architecture, options = network_of(card, model, f"The card of {job.name}")
    network = build_network(architecture, **options).to(device)
    folder, split = data / job.dataset.name, job.dataset.split()
    pairs = read_pairs(job.dataset, folder, split["train"])
    volumes = prepared_volumes(pairs, model.preprocessing, model.patch_size, device)
    del pairs
    prepared_s = time.perf_counter() - started
    print(f"{job.name}: {len(volumes.images)} volumes in {prepared_s:.1f} s", flush=True)
    taken, training_s, losses = _fit(network, volumes, job, seconds, steps)
    state = _small(network)
    network.load_state_dict(state)  # what is measured is what is written
    results = {
        part: _measured(network, model, job, read_pairs(job.dataset, folder, split[part]))
        for part in ("validation", "test")
    }
    report = {
        "name": job.name,
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "command": command,
        "seed": seed,
        "steps": taken,
        "batch": job.batch,
        "learning_rate": job.learning_rate,
        "seconds": {
            "preparing": round(prepared_s, 1),
            "training": round(training_s, 1),
            "in_all": round(time.perf_counter() - started, 1),
        },
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "pairs": {part: len(names) for part, names in split.items()},
        "dice": results,
        "loss": losses,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "versions": {
            "medptq": medptq.__version__,
            "torch": torch.__version__,
            "monai": monai.__version__,
            "python": platform.python_version(),
        },
    }
    with atomic_folder(output / job.name) as part:
        torch.save(state, part / f"{job.name}.pth")
        write_json(part / f"{job.name}.json", card)
        write_json(part / "training.json", report)
    return report


def _fit(
    network: nn.Module,
    volumes: Volumes,
    job: Job,
    seconds: float,
    steps: int | None,
) -> tuple[int, float, list[float]]:
    """Train; return the steps, the seconds, and the loss every now and then."""
    device = volumes.images.device
    # Heads that are not computed with have no gradients, and stay as they are.
    optimizer = torch.optim.AdamW(network.parameters(), job.learning_rate, weight_decay=1e-3)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
    network.train()
    step, share, losses = 0, 0.0, []
    started = time.perf_counter()
    while share < 1:
        for group in optimizer.param_groups:
            group["lr"] = job.learning_rate * min((step + 1) / _WARM_UP, (1 - share) ** 0.9)
        images, labels = draw_batch(volumes, job.patch, job.batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = network(images)
        loss = criterion(outputs.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        step += 1
        if step % 10 == 0 and device.type == "cuda":
            torch.cuda.synchronize()  # or the clock runs behind
        elapsed = time.perf_counter() - started
        share = elapsed / seconds if steps is None else step / steps
        if step % _TOLD_EVERY == 0 or share >= 1:
            losses.append(round(loss.item(), 4))
            print(f"{job.name}: step {step}, {elapsed:.0f} s, loss {losses[-1]}", flush=True)
    network.eval()
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise SystemExit(f"{job.name}: the training diverged")
    return step, time.perf_counter() - started, losses


def _small(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights on the CPU: kernels and matrices in half precision.

    Those that a network has under several names stay one, and are written once.
    """
    copies: dict[int, Tensor] = {}
    state = network.state_dict(keep_vars=True)
    for tensor in state.values():
        halved = tensor.is_floating_point() and tensor.dim() > 1
        if id(tensor) not in copies:
            copy = tensor.detach().cpu().clone()
            copies[id(tensor)] = copy.half() if halved else copy
    return {name: copies[id(tensor)] for name, tensor in state.items()}


class _ModuleSession(Session):
    """A network in PyTorch, in FP32, as medptq.inference runs it."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int, int, int]) -> None:
        self.network, self.input_shape = network, shape
        self.device = next(network.parameters()).device

    def run(self, batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.network(batch)  # type: ignore[no-any-return]


def _measured(
    network: nn.Module, model: SegmentationModel, job: Job, pairs: Sequence[Pair]
) -> dict[str, Any]:
    """Return Dice of a part of the split, by the way ``medptq segment`` takes."""
    torch.backends.cudnn.allow_tf32 = False
    found: dict[str, list[float]] = {label.name: [] for label in model.labels}
    session = _ModuleSession(network, (job.batch, model.channels, *model.patch_size))
    for pair in pairs:
        labels = segment_scan(model, session, pair.scan, reporter=Reporter()).labels
        scores = dice(pair.labels, labels, [label.value for label in model.labels])
        for label in model.labels:
            score = scores[label.value]
            if score is not None:  # the scan has none, and none was found
                found[label.name].append(score)
    classes = {name: round(statistics.fmean(scores), 5) for name, scores in found.items() if scores}
    return {"mean": round(statistics.fmean(classes.values()), 5), "classes": classes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=JOBS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, help="how many, in place of --seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = train_job(
        JOBS[options.name],
        options.data,
        options.output,
        seconds=options.seconds,
        seed=options.seed,
        steps=options.steps,
        command=" ".join(["python", *sys.argv]),
    )
    for part, result in report["dice"].items():
        print(f"{options.name}: {part} Dice {result['mean']:.4f} {result['classes']}")


if __name__ == "__main__":
    main()
