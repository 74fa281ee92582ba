"""The charts of the report page, and the rows that `dvc plots` draws."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.reporting.comparison import all_sets, compare, points
from pipeline.reporting.svg import (
    BASE,
    FINETUNED,
    INK,
    LINE,
    LOSS,
    MUTED,
    NAME_CHARS,
    PAPER,
    PERCENT,
    chart,
    printable,
)

DIRECTIONS = {"image_to_text": "image → text", "text_to_image": "text → image"}
RANKS = (1, 5, 10)
OTHER = "(other)"

_IN_BEFORE_AFTER = (
    "top1",
    "top5",
    "mean_per_class",
    "image_to_text_r1",
    "text_to_image_r1",
)
_PANEL = (330.0, 215.0)
_SMALL_PANEL = (300.0, 205.0)
_PANEL_MARGINS = (48.0, 40.0, 12.0, 12.0)
_NUMBER = FuncFormatter(lambda value, _: f"{value:g}")


def recall_rows(results: Mapping[str, Any]) -> pd.DataFrame:
    """One row a set, direction, k and model: the recall@k as a share."""
    rows = [
        (name, DIRECTIONS[direction], k, model, scores[key][f"{direction}_r{k}"])
        for name, scores in all_sets(results).items()
        for direction in DIRECTIONS
        for key, model in (("base", "base"), ("final", "fine-tuned"))
        for k in RANKS
        if scores[key][f"{direction}_r{k}"] is not None
    ]
    return pd.DataFrame(rows, columns=["set", "direction", "k", "model", "recall"])


def confusion_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row an image with a label and a model: the actual and the predicted class."""
    labelled = predictions[predictions[["label", "final_label"]].notna().all(axis=1)]
    parts = [
        pd.DataFrame(
            {
                "actual": labelled["label"],
                "predicted": labelled[f"{key}_label"],
                "model": model,
            }
        )
        for key, model in (("base", "base"), ("final", "fine-tuned"))
    ]
    return pd.concat(parts, ignore_index=True)


def confusion_counts(predictions: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    """Images by actual (rows) and predicted class (columns), of the fine-tuned model.

    All classes by name, or with more than `limit` the `limit` with the most errors, worst first,
    and a last column for predictions that are none of these.
    """
    labelled = predictions[predictions["label"].notna()]
    actual, predicted = (
        labelled["label"].astype(str),
        labelled["final_label"].astype(str),
    )
    classes = sorted({*actual, *predicted})
    shown = classes
    if len(classes) > limit:
        wrong = actual[actual != predicted].value_counts().to_dict()
        shown = sorted(classes, key=lambda name: (-wrong.get(name, 0), name))[:limit]
    columns = shown if shown is classes else [*shown, OTHER]
    kept = actual.isin(shown)
    predicted = predicted.where(predicted.isin(shown), OTHER)
    counts = pd.crosstab(actual[kept], predicted[kept])
    return counts.reindex(index=shown, columns=columns, fill_value=0)


def before_after_chart(scores: Mapping[str, Any], *, name: str) -> Markup:
    """A line a metric from 0 to 100 %: ring = base, dot = fine-tuned, whisker = interval."""
    found = [x for metric, x in compare(scores).items() if metric in _IN_BEFORE_AFTER]

    def draw(axes: Axes) -> None:
        for y, x in enumerate(found):
            colour = LOSS if x.outcome == "loss" else FINETUNED
            low, high = (min(max(x.base + bound, 0), 1) for bound in (x.low, x.high))
            axes.plot([0, 1], [y, y], color=LINE, linewidth=1, zorder=1)
            axes.plot([low, high], [y, y], color=colour, linewidth=7, alpha=0.28, zorder=2)
            axes.plot([x.base, x.final], [y, y], color=colour, linewidth=1.5, zorder=3)
            axes.plot(
                x.base,
                y,
                "o",
                ms=8,
                color=PAPER,
                mec=BASE,
                mew=2,
                zorder=4,
                clip_on=False,
            )
            axes.plot(x.final, y, "o", ms=9, color=colour, zorder=5, clip_on=False)
            axes.text(0, y - 0.32, x.name, color=INK)
            shown = f"{points(x.gain)} points" if x.outcome != "same" else "no difference shown"
            axes.text(
                1,
                y - 0.32,
                shown,
                color=MUTED if x.outcome == "same" else colour,
                ha="right",
            )
        if scores["chance"] is not None and found[0].metric == "top1":
            axes.plot(
                [scores["chance"]] * 2,
                [-0.16, 0.16],
                color=MUTED,
                linewidth=2,
                zorder=1,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(len(found) - 0.5, -0.75)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)

    height = 52.0 * len(found) + 30
    return chart(draw, name=name, size=(330, height), margins=(10, 24, 10, 2))


def recall_chart(scores: Mapping[str, Any], direction: str, *, name: str) -> Markup:
    """Recall@k over k of the base (ring, dashed) and the fine-tuned model (dot)."""

    def draw(axes: Axes) -> None:
        for key, colour, style, face in (
            ("base", BASE, "--", PAPER),
            ("final", FINETUNED, "-", FINETUNED),
        ):
            recall = [scores[key][f"{direction}_r{k}"] for k in RANKS]
            axes.plot(
                RANKS,
                recall,
                style,
                color=colour,
                marker="o",
                ms=7,
                mfc=face,
                mew=2,
                clip_on=False,
            )
        axes.set_xticks(RANKS)
        axes.set_xlim(0.5, 10.5)
        axes.set_xlabel("k: among the first k answers")
        _share_axis(axes)

    return chart(draw, name=name, size=_PANEL, margins=_PANEL_MARGINS)


def confusion_chart(counts: pd.DataFrame, *, name: str) -> Markup:
    """`confusion_counts` as squares, darker where more of the row's images are."""
    rows, columns = counts.shape
    cell = 40.0 if columns <= 12 else 26.0
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0).to_numpy()

    def draw(axes: Axes) -> None:
        for y, x in zip(*np.nonzero(shares), strict=True):
            share = float(shares[y, x])
            right = counts.index[y] == counts.columns[x]
            colour = FINETUNED if right else LOSS
            box = (x + 0.04, y + 0.04)
            # Even one image of many is to be seen, so the faintest square is not invisible.
            axes.add_patch(
                Rectangle(box, 0.92, 0.92, facecolor=colour, alpha=0.15 + 0.85 * share, lw=0)
            )
            ink = PAPER if share > 0.6 else INK
            number = str(counts.iat[y, x])
            axes.text(
                x + 0.5,
                y + 0.5,
                number,
                color=ink,
                ha="center",
                va="center",
                fontsize=11 if cell > 30 else 9,
            )
        axes.set_xlim(0, columns)
        axes.set_ylim(rows, 0)
        names = [printable(str(column), NAME_CHARS) for column in counts.columns]
        axes.set_xticks(np.arange(columns) + 0.5, names, rotation=90)
        axes.set_yticks(
            np.arange(rows) + 0.5, [printable(str(row), NAME_CHARS) for row in counts.index]
        )
        axes.xaxis.tick_top()
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.xaxis.set_label_position("top")
        axes.set_ylabel("actual")

    letters = max(len(printable(str(name), NAME_CHARS)) for name in counts.columns)
    left = top = 34 + 6.8 * letters
    size = (left + cell * columns + 8, top + cell * rows + 8)
    return chart(draw, name=name, size=size, margins=(left, 8, 8, top))


def loss_chart(history: pd.DataFrame, *, best_epoch: int, name: str) -> Markup:
    """Training and validation loss by epoch."""
    lines = {"train_loss": "training", "val_loss": "validation"}
    return _history_chart(history, lines, best_epoch=best_epoch, name=name)


def validation_recall_chart(history: pd.DataFrame, *, best_epoch: int, name: str) -> Markup:
    """R@1 on the validation split by epoch, in both directions."""
    lines = {
        "val_text_to_image_r1": DIRECTIONS["text_to_image"],
        "val_image_to_text_r1": DIRECTIONS["image_to_text"],
    }
    return _history_chart(history, lines, best_epoch=best_epoch, name=name, share=True)


def learning_rate_chart(history: pd.DataFrame, *, best_epoch: int, name: str) -> Markup:
    """The learning rate by epoch."""
    return _history_chart(history, {"lr": "learning rate"}, best_epoch=best_epoch, name=name)


def _history_chart(
    history: pd.DataFrame,
    lines: Mapping[str, str],
    *,
    best_epoch: int,
    name: str,
    share: bool = False,
) -> Markup:
    styles = [(BASE, "--"), (FINETUNED, "-")][-len(lines) :]

    def draw(axes: Axes) -> None:
        for (column, label), (colour, style) in zip(lines.items(), styles, strict=True):
            axes.plot(
                history["epoch"],
                history[column],
                style,
                color=colour,
                marker="o",
                markersize=4,
                label=label,
                clip_on=False,
            )
        axes.axvline(best_epoch, color=MUTED, linestyle=":", linewidth=1.5, label="kept")
        axes.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        if share:
            _share_axis(axes)
        else:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(_NUMBER)
        axes.legend(loc="best")

    return chart(draw, name=name, size=_SMALL_PANEL, margins=_PANEL_MARGINS)


def _share_axis(axes: Axes) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PERCENT)
