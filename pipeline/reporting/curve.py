"""What the points between base and fine-tuned model are worth, as a chart."""

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from pipeline.evaluation.headline import headline
from pipeline.reporting.comparison import TARGET
from pipeline.reporting.svg import (
    FINETUNED,
    KINDS,
    MUTED,
    NAME_CHARS,
    PERCENT,
    chart,
    printable,
)

_STYLES = ("--", "-.", ":")


def headline_of(curve: pd.DataFrame, name: str) -> str:
    """The metric that speaks for a set of the curve: accuracy where there is one."""
    return headline(set(curve["metric"][curve["set"] == name]))


def curve_chart(curve: pd.DataFrame, *, alpha: float, name: str) -> Markup:
    """The main figure of each set over alpha, and a line where the model to use lies.

    `curve` has a row for each alpha, set and metric: `alpha`, `set`, `metric`, `value` (a share).
    """
    general = [str(one) for one in dict.fromkeys(curve["set"]) if one != TARGET]

    def draw(axes: Axes) -> None:
        axes.axvline(alpha, color=MUTED, linestyle=":", linewidth=1.5, label="models/final")
        for i, one in enumerate([TARGET, *general]):
            rows = curve[(curve["set"] == one) & (curve["metric"] == headline_of(curve, one))]
            axes.plot(
                rows["alpha"],
                rows["value"],
                "-" if one == TARGET else _STYLES[i % len(_STYLES)],
                color=FINETUNED if one == TARGET else KINDS[i % len(KINDS)],
                marker="o",
                markersize=5,
                label="your validation pictures" if one == TARGET else printable(one, NAME_CHARS),
                clip_on=False,
            )
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0: base", "0.25", "0.5", "0.75", "1: trained"])
        axes.tick_params(axis="x", pad=6)
        axes.set_xlabel("α")
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PERCENT)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, columnspacing=1.2)

    rows = -(-(len(general) + 2) // 2)
    size = (380.0, 270.0 + 20 * rows)
    return chart(draw, name=name, size=size, margins=(46, 56.0 + 20 * rows, 34, 12))
