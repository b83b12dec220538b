"""The folder of a sensitivity study: a page for people, JSON and CSV for programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from medptq.artifacts import atomic_folder, write_json
from medptq.evaluate.pages import render_page
from medptq.evaluate.sensitivity_charts import histogram, loss_chart
from medptq.evaluate.sensitivity_study import SensitivityStudy
from medptq.evaluate.tables import write_table
from medptq.quantization.sensitivity import LayerSensitivity

MOST_BARS = 30
_MOST_HISTOGRAMS = 8


@dataclass(frozen=True)
class _Drawn:
    """A layer with its histograms, by what they show."""

    layer: LayerSensitivity
    histograms: dict[str, Markup]


SENSITIVITY_FILES = ("sensitivity.html", "sensitivity.json", "sensitivity.csv")
"""What :func:`write_sensitivity` writes."""


def write_sensitivity(study: SensitivityStudy, folder: Path, *, overwrite: bool = False) -> None:
    """Write ``sensitivity.html``, ``sensitivity.json`` and ``sensitivity.csv`` into a folder.

    Args:
        study: What was found.
        folder: The folder to be; it appears when everything in it is written.
        overwrite: Replace a folder of that name.

    Raises:
        OutputError: The folder is there already or cannot be written.
    """
    with atomic_folder(folder, overwrite=overwrite) as part:
        write_json(part / "sensitivity.json", study.to_json())
        write_table(part / "sensitivity.csv", study.rows())
        (part / "sensitivity.html").write_text(_page(study), encoding="utf-8")


def _page(study: SensitivityStudy) -> str:
    sensitivity = study.sensitivity
    return render_page(
        "sensitivity.html.j2",
        study=study,
        layers=sensitivity.layers,
        together=sensitivity.together,
        best_spared=max(sensitivity.layers, key=lambda row: row.all_but.dice),
        chart=loss_chart(sensitivity, MOST_BARS),
        shown=min(MOST_BARS, len(sensitivity.layers)),
        drawn=[_drawn(study, row) for row in sensitivity.layers[:_MOST_HISTOGRAMS]],
        distributions=study.distributions,
    )


def _drawn(study: SensitivityStudy, row: LayerSensitivity) -> _Drawn:
    found = study.distributions[row.layer]
    several = len(found.inputs) > 1
    histograms = {
        f"Input {number}" if several else "Input": histogram(f"Input {number}", distribution)
        for number, distribution in enumerate(found.inputs, start=1)
    }
    if found.weight is not None:
        histograms["Weights"] = histogram("Weights", found.weight)
    return _Drawn(row, histograms)
