"""How a verdict looks in the panel."""

from __future__ import annotations

import html
from typing import Any

from MedPTQSlicerLib.computerVerdict import Light, Mend, Verdict

# A shape each, as not everyone tells the colours apart; both are readable on dark and light.
_LIGHTS: dict[Light, tuple[str, str, str]] = {
    "green": ("●", "#2e9e4f", "All is well"),
    "amber": ("▲", "#d08700", "It works, but not as well as it could"),
    "red": ("■", "#d0342c", "It does not work"),
}
_MENDS: dict[Mend, tuple[str, str]] = {
    "install": ("Install what is missing…", "Shows exactly what will be installed, and asks first"),
    "pytorch": ("Install PyTorch…", "With Slicer's PyTorch extension, which asks first"),
    "slicersPython": ("Use Slicer's Python", "Go back to the Python that comes with Slicer"),
}


def showVerdict(ui: Any, verdict: Verdict) -> None:
    """Show a verdict on computerLight, computerSummary and computerMend.

    Args:
        ui: The panel's widgets.
        verdict: What to show.
    """
    sign, color, meaning = _LIGHTS[verdict.light]
    ui.computerLight.setText(sign)
    ui.computerLight.setStyleSheet(f"color: {color}; font-size: 16pt")
    ui.computerLight.setToolTip(meaning)
    first, semicolon, rest = verdict.line.partition("; ")
    lines = [f"<b>{_escaped(first)}</b>{semicolon}{_escaped(rest)}"]
    lines += [_escaped(_sentence(part)) for part in (verdict.why, verdict.todo) if part]
    ui.computerSummary.setText("<br>".join(lines))
    if verdict.mend is not None:
        text, toolTip = _MENDS[verdict.mend]
        ui.computerMend.setText(text)
        ui.computerMend.setToolTip(toolTip)
    ui.computerMend.setVisible(verdict.mend is not None)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)
