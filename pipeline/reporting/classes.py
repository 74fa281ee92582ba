"""Class by class, and how sure a model is beside how often it is right."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from pipeline.reporting import details
from pipeline.reporting.comparison import all_sets
from pipeline.reporting.details import ClassRow, Reliability
from pipeline.reporting.svg import BASE, FINETUNED, INK, LINE, LOSS, MUTED, PAPER, chart, printable

MODELS = {"base": "base", "final": "fine-tuned"}

_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.0f} %")
_SMALLEST, _LARGEST = 5.0, 14.0
_NAME_CHARS = 18


def reliability_rows(results: Mapping[str, Any]) -> pd.DataFrame:
    """One row a set, model and bin: how sure, how often right, of how many images."""
    rows = [
        (name, MODELS[model], x["confidence"], x["accuracy"], x["images"])
        for name, scores in all_sets(results).items()
        for model, found in details.calibration(scores).items()
        for x in found.bins
    ]
    return pd.DataFrame(rows, columns=["set", "model", "confidence", "accuracy", "images"])


def class_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """One row a class of the target, the worst first: images, and shares named rightly."""
    rows = [
        (row.name, row.images, row.base, row.final, row.gain)
        for row in details.class_rows(results["target"])
    ]
    return pd.DataFrame(rows, columns=["class", "images", "base", "final", "gain"])


def reliability_chart(found: Mapping[str, Reliability], *, name: str) -> Markup:
    """Accuracy over confidence, a point a bin, larger with more images; the line is perfect."""
    most = max(x["images"] for one in found.values() for x in one.bins)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.5, zorder=1)
        for model, colour, style, face in (
            ("base", BASE, "--", PAPER),
            ("final", FINETUNED, "-", FINETUNED),
        ):
            bins = found[model].bins
            sure, right = [[x[key] for x in bins] for key in ("confidence", "accuracy")]
            sizes = [_SMALLEST + (_LARGEST - _SMALLEST) * (x["images"] / most) ** 0.5 for x in bins]
            axes.plot(sure, right, style, color=colour, linewidth=1.5, zorder=2)
            for x, y, size in zip(sure, right, sizes, strict=True):
                axes.plot(
                    x, y, "o", ms=size, color=face, mec=colour, mew=2, zorder=3, clip_on=False
                )
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-0.04, 1.04)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set_xlabel("how sure it is")
        axes.set_ylabel("how often it is right")

    return chart(draw, name=name, size=(330, 290), margins=(64, 42, 18, 14))


def class_chart(rows: list[ClassRow], *, name: str) -> Markup:
    """A line a class from 0 to 100 %: ring = base, dot = fine-tuned."""

    def draw(axes: Axes) -> None:
        for y, row in enumerate(rows):
            colour = LOSS if row.gain < 0 else FINETUNED
            axes.plot([0, 1], [y, y], color=LINE, linewidth=1, zorder=1)
            axes.plot([row.base, row.final], [y, y], color=colour, linewidth=1.5, zorder=3)
            axes.plot(row.base, y, "o", ms=7, color=PAPER, mec=BASE, mew=2, zorder=4, clip_on=False)
            axes.plot(row.final, y, "o", ms=8, color=colour, zorder=5, clip_on=False)
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xticks([0, 0.5, 1])
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.set_yticks(
            range(len(rows)), [printable(row.name, _NAME_CHARS) for row in rows], color=INK
        )
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.grid(visible=False)

    letters = max(len(printable(row.name, _NAME_CHARS)) for row in rows)
    left = 12 + 6.4 * letters
    return chart(draw, name=name, size=(340, 24.0 * len(rows) + 36), margins=(left, 26, 20, 8))
