"""The report: one HTML page that holds all it shows and asks nothing of the network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.data.places import Places
from pipeline.reporting import comparison, details, examples, plots
from pipeline.reporting.comparison import TARGET
from pipeline.reporting.curve import curve_chart
from pipeline.reporting.evaluated import Evaluated, evaluated
from pipeline.reporting.pages import environment
from pipeline.reporting.quality import DOCS_FILE, Quality
from pipeline.reporting.scatter import projection_chart
from pipeline.reporting.svg import Chart
from pipeline.reporting.thumbnails import thumbnail
from pipeline.reporting.verdict import verdict

_CONFUSIONS = 6
_CONFUSION_IMAGES = 3
_CLASSES = 20


@dataclass(frozen=True)
class Page:
    """The page, and its charts one by one, by a name that is a file's too."""

    html: str
    figures: dict[str, Chart]


def render(
    results: Mapping[str, Any],
    *,
    stages: Mapping[str, Mapping[str, Any]],
    curve: pd.DataFrame,
    history: pd.DataFrame,
    projection: pd.DataFrame,
    predictions: Mapping[str, pd.DataFrame],
    searches: pd.DataFrame,
    places: Mapping[str, Places],
    quality: Quality,
    params: Mapping[str, Any],
    model: Mapping[str, str],
    title: str,
) -> Page:
    """The page, the same for the same inputs.

    `results` may lack `slices`, `probe` and the `details` of a set (details.py): the page then says
    so. `stages` are the metrics of validate, clean, embed and finetune; `curve` is a row for each
    point between base and trained model, set and metric; `history` is a row an epoch, `projection`
    a row a picture that is shown as a point.
    `predictions` and `places` (of images, by id) have one entry a set: `target` and each general
    set; `searches` is a row an answer (searches.py). `quality` is what is known of the data; the
    page links to Data Docs beside it. `params` must hold `evaluate.confidence`; it is shown whole,
    as are the facts in `model`.
    """
    sets = [
        evaluated(
            name,
            scores,
            predictions=predictions[name],
            places=places[name],
            found=searches,
            number=i,
        )
        for i, (name, scores) in enumerate(comparison.all_sets(results).items())
    ]
    confusion = _confusion(predictions[TARGET], places[TARGET])
    way, training, points = (
        _curve(curve, results["alpha"]),
        _training(history, stages["finetune"]),
        _projection(projection),
    )
    left_out = details.left_out(
        results,
        confused=confusion is not None,
        searched=any(one.searches for one in sets),
        drawn=bool(points),
    )
    html = (
        environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            verdict=verdict(results),
            sets=sets,
            target=sets[0],
            confidence=params["evaluate"]["confidence"],
            confusion=confusion,
            curve=way,
            slices=details.slices(results),
            opinions=details.opinions(results),
            opinion_limits=details.limits(results),
            left_out=left_out,
            training=training,
            history=history,
            projection=points,
            stages=stages,
            quality=quality,
            docs=DOCS_FILE,
            params=dict(flat(params)),
            model=model,
        )
    )
    others = {"curve": way, "confusion": confusion["chart"] if confusion else None}
    others |= {f"training_{i}": chart for i, chart in enumerate(training, start=1)}
    others |= {f"pictures_{i}": chart for i, chart in enumerate(points, start=1)}
    return Page(html, {**_figures(sets), **{name: c for name, c in others.items() if c}})


def _figures(sets: list[Evaluated]) -> dict[str, Chart]:
    """The charts of each set. Names of sets are the user's, so a number stands for all but one."""
    found: dict[str, Chart | None] = {}
    for i, one in enumerate(sets):
        part = TARGET if one.is_target else f"general_{i}"
        found[f"{part}_before_after"] = one.before_after
        found |= {f"{part}_recall_{k}": chart for k, chart in enumerate(one.recall, start=1)}
        found[f"{part}_classes"] = one.class_chart
        found[f"{part}_reliability"] = one.reliability
    return {name: chart for name, chart in found.items() if chart}


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys: {"clean": {"min_words": 1}} -> ("clean.min_words", 1)."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _confusion(predictions: pd.DataFrame, places: Places) -> dict[str, Any] | None:
    """The matrix and the worst pairs of the target; None where it has no labels."""
    if not examples.has_labels(predictions):
        return None
    counts = plots.confusion_counts(predictions, limit=_CLASSES)
    worst = examples.worst_confusions(predictions, limit=_CONFUSIONS, images=_CONFUSION_IMAGES)
    return {
        "chart": Chart(
            svg=plots.confusion_chart(counts, name="confusion"),
            title="What the fine-tuned model mixes up",
            text="Rows are classes, columns what their pictures were taken for.",
        ),
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
