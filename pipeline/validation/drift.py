"""How far the data have moved from those that somebody accepted.

`data/accepted.json` lists the profiles of the data that were last accepted, at most two, the newest
last; it is in git, `[]` at first, and only `cliptune accept` writes it. The reference is the newest
that is not the present profile itself. So accepting the present data does not change what
`validate` finds, and DVC reruns nothing after it.

Two samples of the very same source differ, the more so the smaller they are. Every figure but the
number of rows is therefore corrected for chance, and is 0 where chance alone would do. The unit of
chance is an image: the captions of one image, which share its label and its words, count as one
draw. See docs/design.md.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pipeline.artifacts import sha256_text
from pipeline.errors import DataError
from pipeline.validation.profile import VERSION, WORDS_KEPT, Labels, Profile

FIGURES = ("rows", "caption_words", "vocabulary", "labels", "image_side", "brightness")

_DEVIATIONS = 3.0
"""This far above its mean is chance still: about one pair of samples in 700 goes beyond."""
_DIGITS = 6
_UNLABELLED = "\0none"
_REST = "\0rest"

Shares = np.ndarray[Any, np.dtype[np.float64]]


def compare(profile: Mapping[str, Any], accepted_file: Path) -> dict[str, Any]:
    """Measure `profile` against the reference in `accepted_file`.

    Returns {"reference": {"profile": SHA-256 of the profile, "rows"}, "figures": {name: value}};
    without a reference, `reference` and all figures are null. `rows` is the relative change of
    the number of rows; `vocabulary` is the share of words that the reference does not know, of
    those that it should; the others are the share of the distribution that moved. A figure is null
    where one side has nothing to compare or too little to tell.
    Raises DataError when the file is not a list of profiles.
    """
    profiles = [known for known in read_accepted(accepted_file) if known != profile]
    if not profiles:
        return {"reference": None, "figures": dict.fromkeys(FIGURES)}
    reference = profiles[-1]
    return {
        "reference": {"profile": digest(reference), "rows": reference["rows"]},
        "figures": measure(profile, reference),
    }


def measure(profile: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of `compare` for two profiles, `other` being the reference.

    Raises pydantic's ValidationError for what is no profile.
    """
    reference, present = Profile.model_validate(other), Profile.model_validate(profile)
    figures = {
        "rows": abs(present.rows / reference.rows - 1) if reference.rows else None,
        "caption_words": _histograms(present, reference, "words"),
        "vocabulary": _unknown_words(present, reference),
        "labels": _labels(present, reference),
        "image_side": _histograms(present, reference, "image_side"),
        "brightness": _histograms(present, reference, "brightness"),
    }
    return {
        name: None if value is None else round(value, _DIGITS) for name, value in figures.items()
    }


def read_accepted(accepted_file: Path) -> list[dict[str, Any]]:
    """The profiles in `accepted_file`, the newest last; none where there is no file."""
    remedy = "take it back from git, or write [] into it and run `cliptune accept`"
    try:
        content = json.loads(accepted_file.read_text(encoding="utf-8"))
        TypeAdapter(list[Profile]).validate_python(content)
    except FileNotFoundError:
        return []
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"]) or "the whole"
        wrong = f"{place}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
        raise DataError(f"{accepted_file} is not a list of profiles ({wrong}): {remedy}") from None
    except ValueError as error:
        raise DataError(f"{accepted_file} is not JSON ({error}): {remedy}") from None
    if any(known["version"] != VERSION for known in content):
        raise DataError(f"{accepted_file} holds profiles of another version: {remedy}")
    profiles: list[dict[str, Any]] = content
    return profiles


def digest(profile: Mapping[str, Any]) -> str:
    """SHA-256 of a profile, whatever the order of its keys."""
    return sha256_text(json.dumps(profile, sort_keys=True))


def moved_share(present: Shares, reference: Shares, *, draws: tuple[int, int]) -> float | None:
    """The share of a distribution that moved between two samples, less what chance moves.

    `present` and `reference` are shares of the same K bins, each adding up to 1; `draws` are the
    numbers of independent draws behind them. It is the total variation distance ½Σ|p − q|, 0 to 1,
    set against the distance that two samples of one distribution have by chance, as Cohen's kappa
    is: (distance − chance) / (1 − chance), not below 0. By chance a bin's |p − q| is that of a
    normal variable with variance v = s(1 − s)(1/n + 1/m), s the pooled share: mean √(2v/π),
    variance (1 − 2/π)v; and never above p + q. Chance is the mean of the sum and three standard
    deviations. Null where chance alone moves half: such samples can't tell.
    """
    n, m = draws
    pooled = (n * present + m * reference) / (n + m)
    variances = pooled * (1 - pooled) * (1 / n + 1 / m)
    means = np.minimum(np.sqrt(variances * 2 / math.pi), 2 * pooled)
    spread = math.sqrt((1 - 2 / math.pi) * float(variances.sum()))
    chance = (float(means.sum()) + _DEVIATIONS * spread) / 2
    if chance > 0.5:
        return None
    distance = float(np.abs(present - reference).sum()) / 2
    return max(0.0, (distance - chance) / (1 - chance))


def _histograms(present: Profile, reference: Profile, name: str) -> float | None:
    one, other = getattr(present, name), getattr(reference, name)
    if one.edges != other.edges:
        return None
    return _moved(one.counts, other.counts, present, reference)


def _moved(one: list[int], other: list[int], present: Profile, reference: Profile) -> float | None:
    ours, theirs = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
    if not ours.sum() or not theirs.sum():
        return None
    draws = (present.images, reference.images)
    return moved_share(ours / ours.sum(), theirs / theirs.sum(), draws=draws)


def _labels(present: Profile, reference: Profile) -> float | None:
    """The share of pairs that would need another label; having none counts as a label."""
    ours, theirs = present.labels, reference.labels
    if not ours.counts and not theirs.counts:
        return None
    shown = (_listed(ours, theirs), _listed(theirs, ours))
    names = sorted({*shown[0], *shown[1]})
    one, other = ([counts.get(name, 0) for name in names] for counts in shown)
    return _moved(one, other, present, reference)


def _listed(labels: Labels, others: Labels) -> dict[str, int]:
    """Pairs by label, and together those of labels that `others` may have but need not list.

    Where there are more labels than a list holds, chance decides which of the rarest it names.
    """
    counts = {_REST: labels.rest, _UNLABELLED: labels.none}
    certain = 2 * min(others.counts.values(), default=0) / _pairs(others) if others.rest else 0.0
    for label, count in labels.counts.items():
        known = label in others.counts or count / _pairs(labels) > certain
        name = label if known else _REST
        counts[name] = counts.get(name, 0) + count
    return counts


def _pairs(labels: Labels) -> int:
    return sum(labels.counts.values()) + labels.rest + labels.none


def _unknown_words(present: Profile, reference: Profile) -> float | None:
    """The share of the present words, each as often as it stands there, that are not known.

    A word is judged only if the reference would list it: at the present rate it is expected there
    c·r times (c: its count, r: total words there and here), give or take √(D·c·r(1 + r)) with D
    captions an image, and that must lie three standard deviations above the least count that the
    reference lists. So the long tail, of which any two samples know different parts, is left out.
    """
    ours, theirs = present.vocabulary, reference.vocabulary
    if not ours.total or not theirs.total:
        return None
    listed_all = len(theirs.words) < WORDS_KEPT
    least = theirs.forgotten if listed_all else min(theirs.words.values()) + theirs.forgotten
    ratio = theirs.total / ours.total
    captions = max(present.rows / present.images, reference.rows / reference.images)
    judged = unknown = 0
    for word, count in ours.words.items():
        expected = count * ratio
        deviation = math.sqrt(captions * expected * (1 + ratio))
        if expected - _DEVIATIONS * deviation > least:
            judged += count
            unknown += count if word not in theirs.words else 0
    return unknown / judged if judged else None
