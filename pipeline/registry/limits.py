"""Where a model's figures end, as sentences: each follows from what the stages found."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.reporting.comparison import TARGET, all_sets, percent
from pipeline.reporting.details import calibration, class_rows, majority, without_images
from pipeline.reporting.svg import printable
from pipeline.reporting.verdict import headline

FEW = 10
"""Test pictures of a class, below which its share is told in steps of ten points or more."""

_NAMES = 10
_CHARS = 60
"""Names that a sentence holds, and of each."""

_LARGE_ECE = 0.05
"""Of a model whose confidence is far from how often it is right."""


def limits(results: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each limit that the figures show; those of CLIP itself are not among them."""
    return [*_measured(results), *_forgotten(results), *_of_data(stages)]


def _measured(results: Mapping[str, Any]) -> Iterator[str]:
    target = results["target"]
    found = headline(target)
    if results["alpha"] == 0:
        yield "Its weights are those of its base: training made nothing better that may be kept."
    elif found.outcome == "same":
        yield "On its own test pictures no difference from the base was shown."
    elif found.outcome == "loss":
        yield "On its own test pictures it is worse than the base."
    width = (found.high - found.low) / 2
    if width > 0:
        yield (
            f"Measured on {_pictures(target['images'])}: a difference below about "
            f"{100 * width:.1f} points would not show."
        )
    most = majority(target)
    if most is not None and target["final"]["top1"] <= most:
        yield f"It is no better than always naming the most frequent class ({percent(most)})."
    rows = class_rows(target)
    few = sorted((row.name for row in rows if row.images < FEW), key=str)
    if few:
        yield f"{_classes(len(few))} fewer than {FEW} test pictures: {_named(few)}."
    without = without_images(target)
    if without:
        yield f"{_classes(len(without))} no test picture, so nothing is known of them: " + (
            f"{_named(without)}."
        )
    never = sorted(row.name for row in rows if row.final == 0)
    if never:
        yield f"No test picture of these is named rightly: {_named(never)}."
    sure = calibration(target).get("final")
    if sure is not None and sure.ece >= _LARGE_ECE:
        yield f"It is {sure.tendency}, by {100 * sure.ece:.0f} points on average."


def _forgotten(results: Mapping[str, Any]) -> Iterator[str]:
    if not results["general"]:
        yield "No general set was measured, so what it forgot of its base is unknown."
    for name, scores in all_sets(results).items():
        if name != TARGET and headline(scores).outcome == "loss":
            yield f"It forgot: on {name} it is worse than its base (see above)."
        if scores.get("trained"):
            yield (
                f"{scores['trained']:,} pictures of {name} were trained on, so it can't show what "
                "was forgotten of them."
            )


def _of_data(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    tokens = stages["validate"].get("tokens") or {}
    cut = stages["embed"].get("truncated_share") or 0
    if cut:
        limit = f" to {tokens['limit']} tokens" if "limit" in tokens else ""
        yield f"{percent(cut)} of its captions were cut{limit}: what stands behind was not read."
    missing = (stages["clean"].get("labels") or {}).get("missing") or {}
    if missing.get("train"):
        yield f"{_classes(missing['train'])} no training picture."
    across = (stages["embed"].get("near") or {}).get("across_splits")
    if across:
        yield (
            f"{across:,} pairs of pictures on two sides of the split look nearly the same to the "
            "base, so the figures may flatter."
        )


def _pictures(count: int) -> str:
    return f"{count:,} test {'picture' if count == 1 else 'pictures'}"


def _classes(count: int) -> str:
    return "1 class has" if count == 1 else f"{count:,} classes have"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return ", ".join(printable(name, _CHARS) for name in names[:_NAMES]) + more
