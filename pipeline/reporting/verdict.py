"""The result in plain sentences: what was gained on the target, what happened elsewhere."""

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.headline import ACCURACY
from pipeline.evaluation.headline import headline as headline_metric
from pipeline.reporting.choice import choice_sentence
from pipeline.reporting.comparison import (
    TARGET,
    Comparison,
    all_sets,
    compare,
    interval,
    percent,
    points,
)


def headline(scores: Mapping[str, Any]) -> Comparison:
    """The metric that speaks for a set: accuracy where there are labels, else finding captions."""
    comparisons = compare(scores)
    return comparisons[headline_metric(comparisons)]


def verdict(results: Mapping[str, Any]) -> list[str]:
    """Sentences: of the target, of each general set or there being none, and of the choice."""
    return [*gains(results), choice_sentence(results["alpha"], results["choice"])]


def gains(results: Mapping[str, Any]) -> list[str]:
    """Sentences: of the target, and of each general set or there being none."""
    target = headline(results["target"])
    sentences = [_target(target, images=results["target"]["images"])]
    for name, scores in all_sets(results).items():
        if name != TARGET:
            told = _general(name, headline(scores), target=target)
            sentences.append(told + _seen(scores))
    if not results["general"]:
        sentences.append("No general set was measured, so what it forgot is unknown.")
    return sentences


def _target(found: Comparison, *, images: int) -> str:
    digits = _digits(found)
    base, final = percent(found.base, digits), percent(found.final, digits)
    on = f"On {images:,} test {'picture' if images == 1 else 'pictures'} the fine-tuned model"
    if found.metric == ACCURACY:
        told = f"{on} names {final} correctly; the base {base}"
    else:
        told = f"{on} finds the right caption first for {final}; the base for {base}"
    bounds = interval(found.low, found.high, digits)
    difference = f"{points(found.gain, digits)} points {bounds}"
    if found.outcome == "same":
        return f"{told}: no difference shown ({difference})."
    if found.outcome == "loss":
        return f"{told}: {difference}, worse than before."
    return f"{told}: {difference}."


def _general(name: str, found: Comparison, *, target: Comparison) -> str:
    digits = _digits(found)
    measure = (
        "" if found.metric == target.metric else f" in {found.name[0].lower()}{found.name[1:]}"
    )
    if found.outcome == "same":
        bounds = interval(found.low, found.high, digits)
        shown = f"{points(found.gain, digits)} points {bounds}"
        asked = f"{found.name[0].lower()}{found.name[1:]}"
        return f"On {name} no difference was shown in {asked} ({shown})."
    if found.outcome == "loss":
        size, bounds = -found.gain, interval(-found.high, -found.low, digits)
    else:
        size, bounds = found.gain, interval(found.low, found.high, digits)
    verb = "lost" if found.outcome == "loss" else "gained"
    return f"On {name} it {verb} {100 * size:.{digits}f} points{measure} {bounds}."


def _seen(scores: Mapping[str, Any]) -> str:
    """That a general set was trained on, so that its figures are no proof."""
    trained, images = scores.get("trained", 0), scores["images"]
    if not trained:
        return ""
    return f" But {trained:,} of its {images:,} pictures were trained on, so it proves little."


def _digits(found: Comparison) -> int:
    """0 where whole numbers tell the truth: they add up, and none becomes 0 or 100 by rounding."""
    base, final, gain = (round(100 * x) for x in (found.base, found.final, found.gain))
    large = all(abs(x) >= 0.01 for x in (found.gain, found.low, found.high))
    inner = all(x in (0, 1) or 0.01 <= x <= 0.99 for x in (found.base, found.final))
    return 0 if final - base == gain and large and inner else 1
