"""What the page says of one set of pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.data.places import Places
from pipeline.reporting import comparison, details, examples, plots
from pipeline.reporting.classes import class_chart, reliability_chart
from pipeline.reporting.comparison import TARGET, Comparison
from pipeline.reporting.details import ClassRow, Reliability
from pipeline.reporting.searches import Search, searches
from pipeline.reporting.svg import Chart
from pipeline.reporting.thumbnails import thumbnail
from pipeline.reporting.verdict import headline

_EXAMPLES = 6
_ROWS = 20
"""Classes that are not folded away."""


@dataclass(frozen=True)
class Example:
    """An image whose answer changed; `actual` is its class, or None where there are no labels."""

    picture: str | None
    caption: str
    actual: str | None
    base: str
    final: str


@dataclass(frozen=True)
class Evaluated:
    """All that the page says of one set of pictures.

    `searches`: heading → right, wrong; `unsearched`: why there are none; `trained`: how many of its
    pictures were trained on.
    """

    name: str
    is_target: bool
    scores: Mapping[str, Any]
    headline: Comparison
    comparisons: list[Comparison]
    before_after: Chart
    recall: list[Chart]
    unsearched: str | None
    trained: int
    labelled: bool
    gained: list[Example]
    gained_count: int
    lost: list[Example]
    lost_count: int
    searches: dict[str, dict[str, list[Search]]]
    classes: list[ClassRow]
    without_images: list[str]
    class_chart: Chart | None
    calibration: dict[str, Reliability]
    reliability: Chart | None
    majority: float | None


def evaluated(
    name: str,
    scores: Mapping[str, Any],
    *,
    predictions: pd.DataFrame,
    places: Places,
    found: pd.DataFrame,
    number: int,
) -> Evaluated:
    """All that is told of the set `name`; `found` is the table of searches."""
    changes = examples.changes(predictions)
    labelled = examples.has_labels(predictions)
    classes = details.class_rows(scores)
    calibration = details.calibration(scores)
    return Evaluated(
        name=name,
        is_target=name == TARGET,
        scores=scores,
        headline=headline(scores),
        comparisons=list(comparison.compare(scores).values()),
        before_after=Chart(
            svg=plots.before_after_chart(scores, name=f"set{number}"),
            title="Before and after",
            text="The table of this set holds the same numbers.",
        ),
        recall=[
            Chart(
                svg=plots.recall_chart(scores, key, name=f"set{number}-{key}"),
                title=f"Recall, {words}",
                text="The table of this set holds the same numbers.",
            )
            for key, words in plots.DIRECTIONS.items()
            if scores["base"][f"{key}_r1"] is not None
        ],
        unsearched=details.unsearched(scores),
        trained=scores.get("trained", 0),
        labelled=labelled,
        gained=_examples(changes.gained, places, labelled=labelled),
        gained_count=len(changes.gained),
        lost=_examples(changes.lost, places, labelled=labelled),
        lost_count=len(changes.lost),
        searches=searches(found, places, name=name),
        classes=classes,
        without_images=details.without_images(scores),
        class_chart=_class_chart(classes, number),
        calibration=calibration,
        reliability=_reliability(calibration, number),
        majority=details.majority(scores),
    )


def _examples(rows: pd.DataFrame, places: Places, *, labelled: bool) -> list[Example]:
    columns = ("base_label", "final_label") if labelled else ("base_rank_i2t", "final_rank_i2t")
    prefix = "" if labelled else "rank "
    return [
        Example(
            picture=thumbnail(places.get(row["image_id"])),
            caption=row["caption"],
            actual=row["label"] if labelled else None,
            base=f"{prefix}{row[columns[0]]}",
            final=f"{prefix}{row[columns[1]]}",
        )
        for row in rows.head(_EXAMPLES).to_dict("records")
    ]


def _class_chart(rows: list[ClassRow], number: int) -> Chart | None:
    if not rows:
        return None
    return Chart(
        svg=class_chart(rows[:_ROWS], name=f"set{number}-classes"),
        title="Class by class" if len(rows) <= _ROWS else f"The {_ROWS} worst classes",
        text="The table beside it holds the same numbers.",
    )


def _reliability(found: Mapping[str, Reliability], number: int) -> Chart | None:
    if not found:
        return None
    told = "; ".join(f"{model}: ECE {100 * one.ece:.1f} points" for model, one in found.items())
    return Chart(
        svg=reliability_chart(found, name=f"set{number}-reliability"),
        title="How often it is right, by how sure it is",
        text=told,
    )
