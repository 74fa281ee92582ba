"""Pictures as points, where the base model puts them."""

from collections import Counter

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from pipeline.reporting.svg import BASE, KINDS, NAME_CHARS, chart, printable

OTHER = "(other)"
_MARKERS = ("o", "^", "s", "D", "v", "P")


def projection_chart(points: pd.DataFrame, by: str, *, name: str) -> Markup:
    """Pictures as points x, y, those of the most frequent values of `by` in colours of their own.

    Values beyond the colours there are, and points without a value, are grey and below.
    """
    values = points[by].astype(object).where(points[by].notna(), None)
    kinds = sorted(Counter(values.dropna()).items(), key=lambda kind: (-kind[1], str(kind[0])))
    coloured = [value for value, _ in kinds[: len(KINDS)]]

    def draw(axes: Axes) -> None:
        rest = ~values.isin(coloured)
        if rest.any():
            axes.scatter(
                points["x"][rest], points["y"][rest], s=9, color=BASE, alpha=0.35, lw=0, label=OTHER
            )
        for value, colour, marker in zip(coloured, KINDS, _MARKERS, strict=False):
            here = values == value
            axes.scatter(
                points["x"][here],
                points["y"][here],
                s=13,
                color=colour,
                marker=marker,
                alpha=0.75,
                lw=0,
                label=printable(str(value), NAME_CHARS),
            )
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=2,
            markerscale=1.8,
            handletextpad=0.2,
            columnspacing=1.2,
        )

    rows = -(-(len(coloured) + 1) // 2)
    size = (330.0, 290.0 + 20 * rows)
    return chart(draw, name=name, size=size, margins=(4, 20.0 * rows + 10, 4, 4))
