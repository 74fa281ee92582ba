"""The report: one HTML page that holds all it shows and asks nothing of the network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.data.places import Places
from pipeline.reporting import comparison, examples, plots
from pipeline.reporting.comparison import TARGET, Comparison
from pipeline.reporting.curve import curve_chart
from pipeline.reporting.pages import environment
from pipeline.reporting.quality import DOCS_FILE, Quality
from pipeline.reporting.scatter import projection_chart
from pipeline.reporting.thumbnails import thumbnail
from pipeline.reporting.verdict import headline, verdict

_EXAMPLES = 6
_CONFUSIONS = 6
_CONFUSION_IMAGES = 3
_CLASSES = 20


@dataclass(frozen=True)
class Chart:
    """An inline SVG and its description for whoever can't see it."""

    svg: Markup
    title: str
    text: str


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
    """All that the page says of one set of pictures."""

    name: str
    is_target: bool
    scores: Mapping[str, Any]
    headline: Comparison
    comparisons: list[Comparison]
    before_after: Chart
    recall: list[Chart]
    labelled: bool
    gained: list[Example]
    gained_count: int
    lost: list[Example]
    lost_count: int


def render(
    results: Mapping[str, Any],
    *,
    stages: Mapping[str, Mapping[str, Any]],
    curve: pd.DataFrame,
    history: pd.DataFrame,
    projection: pd.DataFrame,
    predictions: Mapping[str, pd.DataFrame],
    places: Mapping[str, Places],
    quality: Quality,
    params: Mapping[str, Any],
    model: Mapping[str, str],
    title: str,
) -> str:
    """The page, the same for the same inputs.

    `stages` are the metrics of validate, clean, embed and finetune; `curve` is a row for each
    point between base and trained model, set and metric; `history` is a row an epoch, `projection`
    a row a picture that is shown as a point.
    `predictions` and `places` (of images, by id) have one entry a set: `target` and each general
    set. `quality` is what is known of the data; the page links to Data Docs beside it. `params`
    must hold `evaluate.confidence`; it is shown whole, as are the facts in `model`.
    """
    sets = [
        _evaluated(
            name,
            scores,
            predictions=predictions[name],
            places=places[name],
            number=i,
        )
        for i, (name, scores) in enumerate(comparison.all_sets(results).items())
    ]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            verdict=verdict(results),
            sets=sets,
            confidence=params["evaluate"]["confidence"],
            confusion=_confusion(predictions[TARGET], places[TARGET]),
            curve=_curve(curve, results["alpha"]),
            training=_training(history, stages["finetune"]),
            history=history,
            projection=_projection(projection),
            stages=stages,
            quality=quality,
            docs=DOCS_FILE,
            params=dict(flat(params)),
            model=model,
        )
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys: {"clean": {"min_words": 1}} -> ("clean.min_words", 1)."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _evaluated(
    name: str,
    scores: Mapping[str, Any],
    *,
    predictions: pd.DataFrame,
    places: Places,
    number: int,
) -> Evaluated:
    changes = examples.changes(predictions)
    labelled = examples.has_labels(predictions)
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
        ],
        labelled=labelled,
        gained=_examples(changes.gained, places, labelled=labelled),
        gained_count=len(changes.gained),
        lost=_examples(changes.lost, places, labelled=labelled),
        lost_count=len(changes.lost),
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


def _confusion(predictions: pd.DataFrame, places: Places) -> dict[str, Any] | None:
    """The matrix and the worst pairs of the target; None where it has no labels."""
    if not examples.has_labels(predictions):
        return None
    counts = plots.confusion_counts(predictions, limit=_CLASSES)
    worst = examples.worst_confusions(predictions, limit=_CONFUSIONS, images=_CONFUSION_IMAGES)
    return {
        "svg": plots.confusion_chart(counts, name="confusion"),
        "columns": counts.shape[1],
        "partial": plots.OTHER in counts.columns,
        "classes": counts.shape[0],
        "worst": [(pair, [thumbnail(places.get(id_)) for id_ in pair.images]) for pair in worst],
    }


def _curve(curve: pd.DataFrame, alpha: float) -> Chart:
    return Chart(
        svg=curve_chart(curve, alpha=alpha, name="curve"),
        title="From base to trained model",
        text="plots/interpolation.csv holds the same numbers.",
    )


def _projection(points: pd.DataFrame) -> list[Chart]:
    """The pictures as points, by split and, where there are labels, by label."""
    colourings = {"split": "By part of the split", "label": "By label"}
    return [
        Chart(
            svg=projection_chart(points, by, name=f"projection-{by}"),
            title=title,
            text="Each point is a picture; near points are alike to the base model.",
        )
        for by, title in colourings.items()
        if points[by].notna().any()
    ]


def _training(history: pd.DataFrame, finetune: Mapping[str, Any]) -> list[Chart]:
    best = finetune["best_epoch"]
    drawn = (
        (
            plots.loss_chart,
            "Loss",
            "How wrong the model is on the pairs; lower is better. When the "
            "validation line rises while the training line falls, the model learns by heart.",
        ),
        (
            plots.validation_recall_chart,
            "R@1 on the validation pictures",
            "Pictures that the model does not train on; higher is better.",
        ),
        (
            plots.learning_rate_chart,
            "Learning rate",
            "The size of a step: it warms up, then falls.",
        ),
    )
    return [
        Chart(
            svg=draw(history, best_epoch=best, name=f"training{i}"),
            title=title,
            text=text,
        )
        for i, (draw, title, text) in enumerate(drawn)
    ]
