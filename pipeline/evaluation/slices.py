"""The test pictures of the target, cut into parts: where is a model weaker than its mean says?

A part's gain has an interval of its own. Among many parts some intervals leave 0 out by chance, so
what is *shown* asks for more: McNemar's exact test (McNemar 1947; pictures that one model alone
gets right), corrected for the number of parts by Holm's method (Holm 1979), which bounds the chance
that any of them is called a gain or a loss where there is none.

Shapes: N images.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation.bootstrap import Floats, paired_gain_of_hits
from pipeline.evaluation.headline import ACCURACY

BINS = 4
"""Parts into which numbers are cut, each of about as many images."""

MOST = 200
"""Parts of one cut; what is beyond the largest of them makes one part."""

NUMBERS = 12
"""Distinct numbers of a user's column above which they are cut into ranges."""

DIGITS = (6, 9, 12, 17)
"""In which a number is told: the fewest that tell all apart."""

Cuts = dict[str, "pd.Series[Any]"]
"""By what is cut → the part of each image, by its id; null: in none."""


def cuts(pairs: pd.DataFrame, columns: pd.DataFrame) -> Cuts:
    """All ways in which the images of `pairs` are cut.

    One that makes a single part is left out, and so is one that makes the same parts as one before;
    but not of `columns`, the user's own, by `source_row`: they were asked for. An image has what
    its first pair has.
    """
    images = pairs.groupby("image_id", sort=True)
    first = images.first()
    words = pairs["caption"].map(lambda text: len(text.split())).groupby(pairs["image_id"]).mean()
    near = first["image_group"].map(first["image_group"].value_counts()) > 1
    texts = pairs["caption"].str.casefold()
    shared = texts.map(pairs["image_id"].groupby(texts).nunique()) > 1
    found: Cuts = {
        "label": first["label"],
        "caption length": ranges(words.round(), unit="words"),
        "shorter side": ranges(first[["width", "height"]].min(axis=1), unit="pixels"),
        "source": _source(first),
        "near-duplicates": near.map({True: "with near-duplicates", False: "without"}),
        "caption": shared.groupby(pairs["image_id"])
        .any()
        .map({True: "shared with another picture", False: "its own"}),
        "group": first["group"],
    }
    of_first = columns.reindex(first["source_row"]).set_axis(first.index)
    own = {
        f"column {name}" if name in found else str(name): _largest(_parts(of_first[name]))
        for name in columns
    }
    return _distinct({by: _largest(parts) for by, parts in found.items()}) | own


def ranges(values: "pd.Series[Any]", *, unit: str = "") -> "pd.Series[Any]":
    """Numbers → the range that each lies in, of at most BINS with about as many numbers each."""
    known = values.dropna().astype(float)
    if known.empty:
        return pd.Series(None, index=values.index, dtype=object)
    edges = np.unique(known.quantile(np.linspace(0, 1, BINS + 1)[1:], interpolation="lower"))
    of = pd.Series(np.searchsorted(edges, known), index=known.index)
    least, most = known.groupby(of).min(), known.groupby(of).max()
    text = _texts({*least, *most})
    named = [_span(text[low], text[high], unit) for low, high in zip(least, most, strict=True)]
    return of.map(dict(zip(least.index, named, strict=True))).reindex(values.index)


def table(
    cut: Mapping[str, "pd.Series[Any]"],
    predictions: pd.DataFrame,
    *,
    metric: str,
    least: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[dict[str, Any]]:
    """A row a part, the worst of the final model first; last those too small for an interval.

    `predictions` has a row an image (evaluate.py). A row: `by`, `value`, `images`, `base` and
    `final` (shares of them that `metric`, accuracy or R@1 of finding captions, counts as right),
    `gain`; `low` and `high` of its interval, and `shown` (gain, loss or null), null where the part
    has fewer than `least` images.
    """
    right = hits(predictions, metric)
    rows: list[dict[str, Any]] = []
    p_values = []
    for by, name, part in _each(cut, right):
        base, final = (part[model].to_numpy() for model in ("base", "final"))
        told = len(part) >= least
        gain = paired_gain_of_hits(
            base, final, resamples=resamples, confidence=confidence, seed=seed
        )
        rows.append(
            {
                "by": by,
                "value": name,
                "images": len(part),
                "base": float(base.mean()),
                "final": float(final.mean()),
                "gain": gain["value"],
                "low": gain["low"] if told else None,
                "high": gain["high"] if told else None,
            }
        )
        p_values.append(mcnemar(base, final) if told else None)
    shown = holm(p_values, level=1 - confidence)
    for row, is_shown in zip(rows, shown, strict=True):
        row["shown"] = ("gain" if row["gain"] > 0 else "loss") if is_shown else None
    return sorted(
        rows,
        key=lambda row: (row["low"] is None, row["final"], row["gain"], row["by"], row["value"]),
    )


def hits(predictions: pd.DataFrame, metric: str) -> pd.DataFrame:
    """By image_id: 1 where `base` and `final` are right, else 0; without a label, no row."""
    asked = predictions.set_index("image_id")
    if metric == ACCURACY:
        asked = asked[asked["label"].notna()]
    right = {
        model: asked[f"{model}_label"] == asked["label"]
        if metric == ACCURACY
        else asked[f"{model}_rank_i2t"] <= 1
        for model in ("base", "final")
    }
    return pd.DataFrame(right).astype(float)


def mcnemar(base: Floats, final: Floats) -> float:
    """The chance of a difference as large, either way, if neither model were better.

    Of images N that one model alone gets right, each would be either's with a chance of a half.
    """
    gained, lost = int((final > base).sum()), int((final < base).sum())
    of, fewer = gained + lost, min(gained, lost)
    logs = np.array([_log_choose(of, k) for k in range(fewer + 1)]) - of * math.log(2)
    return min(1.0, 2 * float(np.exp(logs).sum()))


def holm(p_values: list[float | None], *, level: float) -> list[bool]:
    """Which of several tests show something, with a chance of `level` that any does wrongly."""
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    shown = [False] * len(p_values)
    for done, (p, place) in enumerate(tested):
        if p > level / (len(tested) - done):
            break
        shown[place] = True
    return shown


def _each(
    cut: Mapping[str, "pd.Series[Any]"], right: pd.DataFrame
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for by, parts in cut.items():
        of = parts.reindex(right.index)
        for name, part in right.groupby(of, sort=True):
            yield by, str(name), part


def _source(images: pd.DataFrame) -> "pd.Series[Any]":
    """The file that an image came in, or the folder of its own."""
    folder = images["file"].str.rpartition("/")[0]
    own = images["file"].where(images["offset"].notna(), folder)
    # One that came with its row is named by its file: `shard!place`.
    return own.mask(images["packed"], images["image"].str.partition("!")[0])


def _parts(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """A user's column: numbers in ranges where they are many, else as they stand."""
    texts = pd.Series([None if _missing(x) else str(x).strip() for x in values], values.index)
    told = texts.mask(texts == "")
    numbers = pd.to_numeric(told, errors="coerce")
    if numbers.notna().sum() == told.notna().sum() and numbers.nunique() > NUMBERS:
        return ranges(numbers)
    return told


def _missing(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _largest(parts: "pd.Series[Any]") -> "pd.Series[Any]":
    counts = parts.value_counts()
    if len(counts) <= MOST:
        return parts
    kept = sorted(counts.index, key=lambda name: (-counts[name], str(name)))[: MOST - 1]
    other = f"{len(counts) - len(kept):,} others"
    return parts.where(parts.isin(kept) | parts.isna(), other)


def _distinct(found: Cuts) -> Cuts:
    kept: Cuts = {}
    seen = set()
    for by, parts in found.items():
        codes = pd.factorize(parts)[0]
        if parts.nunique() > 1 and codes.tobytes() not in seen:
            seen.add(codes.tobytes())
            kept[by] = parts
    return kept


def _texts(numbers: Iterable[float]) -> dict[float, str]:
    """Numbers as text, no two alike: parts of one name would be one part."""
    known = set(numbers)
    for digits in DIGITS:
        text = {number: _text(number, digits) for number in known}
        if len(set(text.values())) == len(known):
            break
    return text


def _text(number: float, digits: int) -> str:
    return f"{number:.0f}" if number.is_integer() else f"{number:.{digits}g}"


def _span(low: str, high: str, unit: str) -> str:
    if low == high:
        return f"{low} {unit.removesuffix('s') if low == '1' else unit}".strip()
    return f"{low}–{high} {unit}".strip()


def _log_choose(of: int, few: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(few + 1) - math.lgamma(of - few + 1)
