"""Every network that can be built by name: exported, quantized, and run beside PyTorch.

One row a network: its parameters beside the published number, the exported graph and how far it
differs from PyTorch, what was quantized and how far the output moved, and the time of one patch
and the peak memory of each way to run it. Weights are random, which does not change the times;
the INT8 error of a trained network is another one, most of all where the output of untrained
attention is nearly constant. Whatever is timed has a fresh process of its own, one at a time.

    python scripts/benchmarks/zoo.py                                  # all, at 96³
    python scripts/benchmarks/zoo.py --networks unet swinunetr-b      # these, beside today's others
    python scripts/benchmarks/zoo.py --resume                         # those that today's lack
    python scripts/benchmarks/zoo.py --smallest --rounds 1            # quickly: does each run?

Writes the table and JSON under scripts/benchmarks/results/ after each network, and prints the
table at the end. A network that fails has a row that says why, and is tried again by --resume.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from publishing import RESULTS, circumstances, footer, write
from zoo_steps import PATCH, PRECISIONS, STEPS, be_killed_first, patch_of, write_data

import medptq
from medptq.engines.openvino import OpenVINOEngine
from medptq.models.architectures.registry import ARCHITECTURES, Architecture

NOTHING = "-"
WAYS = ("pytorch", *PRECISIONS)


# One row a network.


def row(entry: Architecture, options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Take a network through all steps; what fails is said in the row."""
    found: dict[str, Any] = {
        "name": entry.name,
        "patch": patch_of(entry, options),
        "note": options.note,
        "calibrated_on": options.patches,
        "seconds": {},
        "failures": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        common = ["--work", folder, "--data", str(data)]
        if not step("module", entry, found, options, *common):
            return found
        if not step(
            "quantize", entry, found, options, *common, "--classes", str(found.pop("classes"))
        ):
            return found
        native = OpenVINOEngine().availability().precisions
        for precision in PRECISIONS:
            if precision in native:
                more = [*common, "--precision", precision]
                if step("build", entry, found, options, *more):
                    step("run", entry, found, options, *more)
    return found


def step(
    name: str,
    entry: Architecture,
    found: dict[str, Any],
    options: argparse.Namespace,
    *more: str,
) -> bool:
    """Run one step in a process of its own; add to the row what it tells, and why it failed."""
    command = [sys.executable, __file__, "--step", name, "--networks", entry.name, *more]
    command += ["--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    command += ["--patches", str(options.patches), *(["--smallest"] * options.smallest)]
    title = f"{name} {more[-1]}" if "--precision" in more else name
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found["seconds"][title] = round(time.perf_counter() - started, 1)
    for told in filter(lambda text: text.startswith("{"), done.stdout.splitlines()):
        found.update(json.loads(told))
    if "warning" in found:
        found["failures"].append(f"{title}: {found.pop('warning')}".rstrip("."))
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"ended with {done.returncode}"
        if done.returncode == -signal.SIGKILL:
            reason = "killed, most likely for want of memory"
        found["failures"].append(f"{title}: {reason}".rstrip("."))
        print(f"  {found['failures'][-1]}", flush=True)
    return done.returncode == 0


# The table.


def table(report: dict[str, Any]) -> str:
    measured = {found["name"]: found for found in report["networks"]}
    text = [
        "# Every network: exported, quantized, run",
        "",
        "Random weights, one patch, batch 1. Parameters in millions, ours and published. "
        "Graph: opset, nodes as exported and after simplification, and the largest difference to "
        "PyTorch as a share of the largest output. Q/DQ: quantized inputs and weights. Error "
        "against FP32: root mean square, as a share of how much the output varies, of INT8 and, "
        "to compare it with, of BF16. Times are medians; memory is the peak of a process that "
        "only runs the network. FP32, BF16 and INT8 are OpenVINO's; what an INT8 graph leaves in "
        "floating point runs in BF16. At the smallest patches the deepest maps are a few voxels, "
        "whose normalization makes much of any rounding.",
        "",
        "| network | patch | parameters | graph | Q/DQ | error INT8, BF16 | PyTorch ms | FP32 ms "
        "| BF16 ms | INT8 ms | GB: PyTorch, FP32, BF16, INT8 |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    remarks: dict[str, list[str]] = {}
    for entry in ARCHITECTURES.values():
        found = measured.get(entry.name, {"failures": ["not measured yet"]})
        text.append(line(entry, found))
        for remark in (*found["failures"], found.get("note", "")):
            remarks.setdefault(remark, []).append(entry.title)
    published: dict[str, list[str]] = {}
    for entry in ARCHITECTURES.values():
        where = entry.published.where if entry.published else "none that we know of"
        published.setdefault(f"the published number of parameters: {where}", []).append(entry.title)
    remarks.pop("", None)
    text += ["", *(f"* {'; '.join(names)}: {what}." for what, names in remarks.items())]
    text += [f"* {what}: {'; '.join(names)}." for what, names in published.items()]
    return "\n".join([*text, ""]) + footer(report)


def line(entry: Architecture, found: dict[str, Any]) -> str:
    patch = found.get("patch", PATCH)
    ours = f"{found['parameters'] / 1e6:.2f}" if "parameters" in found else NOTHING
    ways = [found.get(way, {}) for way in WAYS]
    cells = [
        entry.title,
        f"{patch[0]}³" if len(set(patch)) == 1 else "x".join(map(str, patch)),
        f"{ours} / {entry.published.millions if entry.published else NOTHING}",
        f"{found['opset']}, {found['exported_nodes']} → {found.get('nodes', NOTHING)}, "
        f"{found['difference']:.0e}"
        if "opset" in found
        else NOTHING,
        f"{found['quantized_inputs']} + {found['quantized_weights']}"
        if "nodes" in found
        else NOTHING,
        ", ".join(f"{way['error']:.3f}" if "error" in way else NOTHING for way in ways[:1:-1]),
        *(f"{way['median_ms']:.0f}" if way else NOTHING for way in ways),
        ", ".join(f"{way['peak_memory_mb'] / 1e3:.1f}" if way else NOTHING for way in ways),
    ]
    return f"| {' | '.join(cells)} |"


def earlier(date: str) -> dict[str, dict[str, Any]]:
    """Return the rows of that day's result by the networks' names."""
    path = RESULTS / f"zoo-{date}.json"
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["networks"]
    return {found["name"]: found for found in rows}


def is_done(found: dict[str, Any] | None, entry: Architecture, options: argparse.Namespace) -> bool:
    wanted = list(patch_of(entry, options))
    return found is not None and not found["failures"] and list(found["patch"]) == wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=ARCHITECTURES, metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="leave out what today's result has")
    parser.add_argument("--rounds", type=int, default=10, help="timed runs of each way")
    parser.add_argument("--seconds", type=float, default=60, help="at most, of each way")
    parser.add_argument("--patches", type=int, default=2, help="to calibrate on")
    parser.add_argument("--note", default="", help="what to say about the rows of this run")
    parser.add_argument("--smallest", action="store_true", help="the smallest patch of each")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)
    parser.add_argument("--classes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        warnings.simplefilter("ignore")  # of MONAI
        be_killed_first()
        try:
            STEPS[options.step](ARCHITECTURES[options.networks[0]], options)
        except medptq.MedPTQError as error:
            sys.exit(str(error))
        return
    report = circumstances()
    rows = earlier(report["date"])
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        for name in options.networks or ARCHITECTURES:
            if options.resume and is_done(rows.get(name), ARCHITECTURES[name], options):
                continue
            print(f"{name} ...", flush=True)
            rows[name] = row(ARCHITECTURES[name], options, Path(folder))
            report["networks"] = [rows[known] for known in ARCHITECTURES if known in rows]
            write("zoo", report, table(report))
    report["networks"] = [rows[known] for known in ARCHITECTURES if known in rows]
    print(table(report))


if __name__ == "__main__":
    main()
