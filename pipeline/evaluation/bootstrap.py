"""Intervals by resampling images: for both models at once, since they saw the same ones.

Almost every metric here is a ratio of sums over images (hits of an image's queries over their
number), or a mean of such ratios over classes. A resample is then a vector of weights, and B
resamples of a metric are one matrix product. A median has no such parts: its queries are sorted
once, and each resample goes along them.

Shapes: N images, Q queries, B resamples, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

CHUNK = 64
"""Resamples at once, at most."""
WEIGHTS = 2**22
"""Weights at once, at most."""


@dataclass(frozen=True)
class Metric:
    """A metric in its parts by image.

    Attributes:
        hits: hits of each image, N.
        counts: queries of each image, N.
        groups: class of each image, N, for a mean over classes; None for one ratio.
    """

    hits: Floats
    counts: Floats
    groups: Integers | None = None


@dataclass(frozen=True)
class Median:
    """The median of a number that each query has.

    Attributes:
        values: Q.
        owner: image of each query, Q, from 0 to N − 1.
    """

    values: Floats
    owner: Integers


Statistic = Metric | Median


def value(metric: Statistic) -> float:
    """The metric over all images."""
    return float(_weighted(metric, np.ones((1, _images(metric))))[0])


def paired_gain(
    base: Statistic, finetuned: Statistic, *, resamples: int, confidence: float, seed: int
) -> dict[str, float]:
    """finetuned − base: `value`, and the `low` and `high` of its percentile interval.

    Both are resampled together, by image: what one picture's captions share is kept together
    (Efron & Tibshirani 1993, ch. 13).
    """
    (gains,) = paired_gains(
        {"": base}, [{"": finetuned}], resamples=resamples, confidence=confidence, seed=seed
    )
    return gains[""]


def paired_gain_of_hits(
    base: Floats, finetuned: Floats, *, resamples: int, confidence: float, seed: int
) -> dict[str, float]:
    """`paired_gain` where each of N images is a hit, 1, or none, 0.

    What a resample holds of images that were gained, lost and neither is one multinomial draw, of
    three numbers where weights are N.
    """
    images, gained, lost = len(base), (finetuned > base).sum(), (finetuned < base).sum()
    shares = np.array([gained, lost, images - gained - lost]) / images
    drawn_B3 = np.random.default_rng(seed).multinomial(images, shares, size=resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile((drawn_B3[:, 0] - drawn_B3[:, 1]) / images, [tail, 1 - tail])
    return {"value": float((gained - lost) / images), "low": float(low), "high": float(high)}


def paired_gains(
    base: Mapping[str, Statistic],
    models: Sequence[Mapping[str, Statistic]],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[dict[str, dict[str, float]]]:
    """`paired_gain` of each model in each metric by name.

    Metrics of as many images share their resamples, and all models what the base makes of them.
    """
    by_images: dict[int, list[str]] = {}
    for name, metric in base.items():
        by_images.setdefault(_images(metric), []).append(name)
    found: list[dict[str, list[Floats]]] = [{name: [] for name in base} for _ in models]
    for images, names in by_images.items():
        for weights_BN in _resamples(images, resamples, seed=seed):
            for name in names:
                before = _weighted(base[name], weights_BN)
                for model, differences in zip(models, found, strict=True):
                    differences[name].append(_weighted(model[name], weights_BN) - before)
    tail = (1 - confidence) / 2
    tails = [tail, 1 - tail]
    return [
        {
            name: _gain(np.concatenate(some), value(model[name]) - value(base[name]), tails)
            for name, some in differences.items()
        }
        for model, differences in zip(models, found, strict=True)
    ]


def _gain(differences: Floats, gain: float, tails: list[float]) -> dict[str, float]:
    low, high = np.quantile(differences, tails)
    return {"value": gain, "low": float(low), "high": float(high)}


def _resamples(images: int, resamples: int, *, seed: int) -> Iterator[Floats]:
    """How often each of N images is drawn, B×N at a time."""
    random = np.random.default_rng(seed)
    step = min(CHUNK, max(1, WEIGHTS // images))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = random.multinomial(images, np.full(images, 1 / images), size=size)
        yield drawn.astype(np.float64)


def _images(metric: Statistic) -> int:
    return len(metric.hits) if isinstance(metric, Metric) else int(metric.owner.max()) + 1


def _weighted(metric: Statistic, weights_BN: Floats) -> Floats:
    """The metric under each of B weightings of the images: B."""
    if isinstance(metric, Median):
        return _medians(metric, weights_BN)
    if metric.groups is None:
        ratio: Floats = (weights_BN @ metric.hits) / (weights_BN @ metric.counts)
        return ratio
    order = np.argsort(metric.groups, kind="stable")
    sorted_N = metric.groups[order]
    first = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]])
    ordered_BN = weights_BN[:, order]
    hits_BC = np.add.reduceat(ordered_BN * metric.hits[order], first, axis=1)
    counts_BC = np.add.reduceat(ordered_BN * metric.counts[order], first, axis=1)
    drawn_BC = counts_BC > 0
    ratios_BC = np.divide(hits_BC, counts_BC, out=np.zeros_like(hits_BC), where=drawn_BC)
    mean: Floats = ratios_BC.sum(axis=1) / drawn_BC.sum(axis=1)
    return mean


def _medians(metric: Median, weights_BN: Floats) -> Floats:
    """Medians of queries that count as often as their images are drawn: B."""
    order = np.argsort(metric.values, kind="stable")
    values, owner = metric.values[order], metric.owner[order]
    found = np.empty(len(weights_BN))
    for row, weights_N in enumerate(weights_BN):
        upto_Q = np.cumsum(weights_N[owner])
        half = upto_Q[-1] / 2
        lower = np.searchsorted(upto_Q, half, side="left")
        upper = np.searchsorted(upto_Q, half, side="right")
        found[row] = (values[lower] + values[min(upper, len(values) - 1)]) / 2
    return found
