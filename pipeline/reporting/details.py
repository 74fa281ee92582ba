"""What evaluate tells of a set beside its metrics, in the form in which the page shows it.

All of it may be absent: then there is nothing to show, and `left_out` says why.

    results[set]["details"]  per_class, calibration, majority, classes_without_images, omitted
    results["slices"]        rows: by, value, images, base, final, gain, low, high, shown
    results["probe"]         knn, linear → base, final, gain (value, low, high); omitted, and what
                             it was measured on (evaluation/probe.py)
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.evaluation.headline import ACCURACY
from pipeline.reporting.comparison import Comparison, Outcome

PROBES = {
    "knn": ("Nearest neighbours", "each picture takes the label of its nearest training pictures"),
    "linear": ("Linear probe", "a linear classifier, trained on the embeddings alone"),
}
NOT_MEASURED = "evaluate did not measure it"
NO_LABELS = "the test pictures have no labels"
MODELS = {"base": "base", "final": "fine-tuned"}
NAMED = 5
"""Labels named in a sentence, at most."""


class ClassRow(NamedTuple):
    """A class: shares of its pictures that are named rightly, and the commonest wrong answer."""

    name: str
    images: int
    base: float
    final: float
    taken_for: str | None
    taken_for_count: int

    @property
    def gain(self) -> float:
        """The share that the fine-tuned model names rightly beyond the base."""
        return self.final - self.base


class Reliability(NamedTuple):
    """How sure a model is and how often it is right; `bins`: confidence, accuracy, images."""

    ece: float
    bins: list[Mapping[str, Any]]

    @property
    def tendency(self) -> str:
        """Whether it is more sure than it is right, over all pictures."""
        over = sum(x["images"] * (x["confidence"] - x["accuracy"]) for x in self.bins)
        return "more sure than it is right" if over > 0 else "less sure than it is right"


class Slice(NamedTuple):
    """A part of the test pictures; `low` and `high` are null where it is too small for them."""

    by: str
    value: str
    images: int
    base: float
    final: float
    gain: float
    low: float | None
    high: float | None
    outcome: Outcome


class Opinion(NamedTuple):
    """Another way to ask the same models; `found` has accuracies."""

    name: str
    method: str
    found: Comparison


def of_set(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    """The details of a set; those told by model are joined; empty where there are none."""
    told = scores.get("details") or {}
    if not {"base", "final"} <= set(told):
        return told
    base, final = told["base"], told["final"]
    if "per_class" not in final:
        return final  # type: ignore[no-any-return]
    before = {row["class"]: row for row in base["per_class"]}
    rows = [
        {
            "class": row["class"],
            "images": row["images"],
            "base": before[row["class"]]["recall"],
            "final": row["recall"],
            "taken_for": row["mistaken_for"],
            "taken_for_count": row["mistaken"],
        }
        for row in final["per_class"]
    ]
    sure = {
        model: {"ece": one["ece"], "bins": one["reliability"]}
        for model, one in (("base", base), ("final", final))
    }
    return {**final, "per_class": rows, "calibration": sure}


def class_rows(scores: Mapping[str, Any]) -> list[ClassRow]:
    """The classes that have pictures, the worst of the fine-tuned model first."""
    rows = [
        ClassRow(
            str(row["class"]),
            row["images"],
            row["base"],
            row["final"],
            row["taken_for"],
            row["taken_for_count"],
        )
        for row in of_set(scores).get("per_class") or []
        if row["images"]
    ]
    return sorted(rows, key=lambda row: (row.final, row.gain, -row.images, row.name))


def without_images(scores: Mapping[str, Any]) -> list[str]:
    """Classes of which the set has no picture, so that nothing is known of them."""
    return [str(name) for name in of_set(scores).get("classes_without_images") or []]


def unsearched(scores: Mapping[str, Any]) -> str | None:
    """Why captions of the set were not searched; None: they were."""
    told: str | None = (of_set(scores).get("omitted") or {}).get("retrieval")
    return told


def majority(scores: Mapping[str, Any]) -> float | None:
    """The accuracy of always naming the most frequent class."""
    told = of_set(scores).get("majority")
    return told["share"] if isinstance(told, Mapping) else told


def calibration(scores: Mapping[str, Any]) -> dict[str, Reliability]:
    """By model: `base` and `final`; empty where it was not measured."""
    told = of_set(scores).get("calibration") or {}
    return {model: Reliability(told[model]["ece"], list(told[model]["bins"])) for model in told}


def slices(results: Mapping[str, Any]) -> dict[str, list[Slice]]:
    """By what the target was cut: its slices, those that the fine-tuned model does worst on first.

    Those too small for an interval come last. So stand the slicings too. Together the labels, which
    are many, would hide all others.
    """
    rows = [_slice(row) for row in results.get("slices") or []]
    found: dict[str, list[Slice]] = {}

    def worst(row: Slice) -> tuple[Any, ...]:
        return (row.low is None, row.final, row.gain, row.by, row.value)

    for row in sorted(rows, key=worst):
        found.setdefault(row.by, []).append(row)
    return found


def opinions(results: Mapping[str, Any]) -> list[Opinion]:
    """k-NN and linear probe, where they were asked."""
    told = results.get("probe") or {}
    return [
        Opinion(
            name,
            method,
            Comparison(
                metric=ACCURACY,
                base=told[key]["base"],
                final=told[key]["final"],
                gain=told[key]["gain"]["value"],
                low=told[key]["gain"]["low"],
                high=told[key]["gain"]["high"],
            ),
        )
        for key, (name, method) in PROBES.items()
        if told.get(key)
    ]


def limits(results: Mapping[str, Any]) -> list[str]:
    """What narrows the second opinion, as sentences."""
    told = results.get("probe") or {}
    said = []
    if "linear" in told.get("omitted", {}):
        said.append(f"No linear probe: {told['omitted']['linear']}.")
    if "images" in told and told["images"]["train"] < told["labelled"]:
        said.append(
            f"Learnt from {told['images']['train']:,} of {told['labelled']:,} labelled training "
            "pictures (evaluate.probe.max_train)."
        )
    if told.get("unseen", {}).get("images"):
        names = told["unseen"]["classes"]
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        said.append(
            f"Of the test pictures, {told['unseen']['images']:,} can't be named rightly, as no "
            f"training picture has their label: {', '.join(names[:NAMED])}{more}."
        )
    ends = [MODELS[model] for model, at_end in told.get("at_end", {}).items() if at_end]
    if ends:
        said.append(
            f"For the {' and the '.join(ends)} model the linear probe's penalty is the weakest or "
            "strongest of evaluate.probe.l2: one beyond may be better."
        )
    if not all(told.get("converged", {}).values()):
        said.append("The linear probe was not trained to the end: its figures may be too low.")
    return said


def left_out(
    results: Mapping[str, Any], *, confused: bool, searched: bool, drawn: bool
) -> dict[str, str]:
    """What the page does not show, and why."""
    target = results["target"]
    told = of_set(target)
    unnamed = told.get("omitted", {}).get("classification") or (
        NO_LABELS if target["classes"] is None else NOT_MEASURED
    )
    unasked = (results.get("probe") or {}).get("omitted", {}).get("probe", unnamed)
    shown: Iterable[tuple[str, bool, str]] = (
        ("General sets", bool(results["general"]), "there is none, so what was forgotten is open"),
        ("Examples of searches", searched, NOT_MEASURED),
        ("Confusions", confused, unnamed),
        ("Class by class", bool(class_rows(target)), unnamed),
        ("How sure it is", bool(calibration(target)), unnamed),
        ("Parts of the test pictures", bool(results.get("slices")), NOT_MEASURED),
        ("A second opinion", bool(opinions(results)), unasked),
        ("Pictures as points", drawn, "embed kept none"),
    )
    return {name: why for name, there, why in shown if not there}


def _slice(row: Mapping[str, Any]) -> Slice:
    known = ("by", "value", "images", "base", "final", "gain", "low", "high")
    return Slice(**{key: row[key] for key in known}, outcome=row["shown"] or "same")
