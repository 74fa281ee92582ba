"""Intervals by resampling images: for both models at once, since they saw the same ones.

Every metric here is a ratio of sums over images (hits of an image's queries over their number), or
a mean of such ratios over classes. A resample is then a vector of weights, and B resamples of a
metric are one matrix product.

Shapes: N images, B resamples, C classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

CHUNK = 64


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


def value(metric: Metric) -> float:
    """The metric over all images."""
    return float(_weighted(metric, np.ones((1, len(metric.hits))))[0])


def paired_gain(
    base: Metric, finetuned: Metric, *, resamples: int, confidence: float, seed: int
) -> dict[str, float]:
    """finetuned − base: `value`, and the `low` and `high` of its percentile interval.

    Both are resampled together, by image: what one picture's captions share is kept together
    (Efron & Tibshirani 1993, ch. 13).
    """
    random = np.random.default_rng(seed)
    count = len(base.hits)
    differences = []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        drawn = random.multinomial(count, np.full(count, 1 / count), size=size)
        weights = drawn.astype(np.float64)
        differences.append(_weighted(finetuned, weights) - _weighted(base, weights))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(differences), [tail, 1 - tail])
    gain = value(finetuned) - value(base)
    return {"value": gain, "low": float(low), "high": float(high)}


def _weighted(metric: Metric, weights_BN: Floats) -> Floats:
    """The metric under each of B weightings of the images: B."""
    if metric.groups is None:
        ratio: Floats = (weights_BN @ metric.hits) / (weights_BN @ metric.counts)
        return ratio
    one_hot_NC = np.eye(int(metric.groups.max()) + 1)[metric.groups]
    hits_BC = (weights_BN * metric.hits) @ one_hot_NC
    counts_BC = (weights_BN * metric.counts) @ one_hot_NC
    drawn_BC = counts_BC > 0
    ratios_BC = np.divide(hits_BC, counts_BC, out=np.zeros_like(hits_BC), where=drawn_BC)
    mean: Floats = ratios_BC.sum(axis=1) / drawn_BC.sum(axis=1)
    return mean
