"""The result as a few lines for a terminal."""

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.headline import HEADLINES
from pipeline.reporting.comparison import (
    Comparison,
    all_sets,
    compare,
    interval,
    percent,
    points,
)
from pipeline.reporting.verdict import verdict


def summary(results: Mapping[str, Any], *, report: str) -> str:
    """The verdict, a table of the main metrics of every set, and where to look further."""
    lines = [*verdict(results), ""]
    lines += [f"{'':<22}{'base':>8}   {'fine-tuned':>10}   gain in points [interval]"]
    for name, scores in all_sets(results).items():
        lines += [f"{name} ({scores['images']:,} pictures)"]
        lines += [_row(found) for found in compare(scores).values() if found.metric in HEADLINES]
    lines += ["", f"report  {report}", "runs    make ui"]
    return "\n".join(lines)


def _row(found: Comparison) -> str:
    base, final = percent(found.base), percent(found.final)
    gain = f"{points(found.gain):>6} {interval(found.low, found.high)}"
    note = "  no difference shown" if found.outcome == "same" else ""
    return f"  {found.name:<20}{base:>8} → {final:>10}   {gain}{note}"
