"""The figures that a report shows first, each with what it was measured against."""

from __future__ import annotations

from dataclasses import dataclass

from medptq.evaluate import formats
from medptq.evaluate.results import Comparison, EngineResult, Score, ratios

_TIMES = "\N{MULTIPLICATION SIGN}"
_SAME = 0.02  # ratios this close to 1 are no difference worth a claim


@dataclass(frozen=True)
class Headline:
    """One of the figures that are shown first.

    Attributes:
        figure: The number: how many times, or a Dice.
        claim: What it is a number of, ``"faster network"``.
        against: What it was measured against, with both values.
        also: Further comparisons that keep the first one honest.
        good: False if it is a loss.
    """

    figure: str
    claim: str
    against: str
    also: tuple[str, ...] = ()
    good: bool = True


def headlines_of(comparison: Comparison) -> list[Headline]:
    """Return speed of the network and of the whole scan, size, and Dice if it was measured."""
    best, baseline = comparison.headline, comparison.baseline
    times = ratios(best, baseline)
    own_fp32 = next(
        (
            result
            for result in comparison.engines
            if result.engine == best.engine and result.precision == "fp32"
        ),
        baseline,
    )
    fair = own_fp32 if own_fp32 is not baseline else None
    headlines = [
        _times(
            times.latency,
            ("faster network", "slower network", "as fast a network"),
            f"{formats.milliseconds(best.latency.median)} for a patch instead of "
            f"{formats.milliseconds(baseline.latency.median)} with {baseline.title}",
            _also(ratios(best, fair).latency, fair) if fair else (),
        ),
        _times(
            times.volume,
            ("faster whole scan", "slower whole scan", "as fast a whole scan"),
            f"{formats.seconds(best.volume_seconds.total)} from file to label map instead of "
            f"{formats.seconds(baseline.volume_seconds.total)} with {baseline.title}",
            _also(ratios(best, fair).volume, fair) if fair else (),
        ),
        _times(
            times.size,
            ("smaller file", "larger file", "as large a file"),
            f"{formats.decimals(best.model_size_mb, 1)} MB on the disk instead of "
            f"{formats.decimals(baseline.model_size_mb, 1)} MB",
        ),
    ]
    if best.dice_vs_fp32 is not None and best.dice_vs_fp32.mean is not None:
        headlines.append(_dice_headline(comparison, best.dice_vs_fp32))
    return headlines


def _dice_headline(comparison: Comparison, score: Score) -> Headline:
    names = {label.value: label.name for label in comparison.labels}
    count = len(score.found)
    worst = min(score.found, key=lambda label: score.found[label])
    also = []
    if count > 1:
        also.append(f"lowest: {names.get(worst, worst)}, {formats.share(score.found[worst])}")
    reference = comparison.headline.dice_vs_reference
    before = comparison.baseline.dice_vs_reference
    if reference is not None and before is not None:
        also.append(
            f"against the reference segmentation {formats.share(reference.mean)}, "
            f"{formats.share(before.mean)} with {comparison.baseline.title}"
        )
    against = f"against {comparison.baseline.title}'s segmentation of this scan"
    if count > 1:
        against = f"mean of {count} structures, {against}"
    return Headline(formats.share(score.mean), "Dice", against, tuple(also))


def _times(
    ratio: float, claims: tuple[str, str, str], against: str, also: tuple[str, ...] = ()
) -> Headline:
    better, worse, same = claims
    if abs(ratio - 1) < _SAME:
        return Headline(f"1.0{_TIMES}", same, against, also)
    if ratio > 1:
        return Headline(f"{formats.ratio_text(ratio)}{_TIMES}", better, against, also)
    return Headline(f"{formats.ratio_text(1 / ratio)}{_TIMES}", worse, against, also, good=False)


def _also(ratio: float, other: EngineResult) -> tuple[str, ...]:
    if abs(ratio - 1) < _SAME:
        return (f"no faster than {other.title}",)
    if ratio > 1:
        return (f"{formats.ratio_text(ratio)}{_TIMES} faster than {other.title}",)
    return (f"{formats.ratio_text(1 / ratio)}{_TIMES} slower than {other.title}",)
