"""The likeliest classes of each picture, with their probabilities.

Shapes: N pictures, C classes, D width of an embedding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.evaluation.exact import Floats, Matrix


class Label(NamedTuple):
    """A class, its share of the softmax over all classes, and the cosine with the picture."""

    name: str
    probability: float
    cosine: float


class Prediction(NamedTuple):
    """A picture and its classes, the likeliest first."""

    image: str
    labels: list[Label]


def likeliest(
    names: Sequence[str],
    images: Matrix,
    weights: Matrix,
    classes: Sequence[str],
    *,
    scale: float,
    top: int,
) -> list[Prediction]:
    """The `top` of C classes of each of N pictures, by vectors N×D and C×D of unit length.

    A probability is the share of a softmax over `scale` × cosine (Radford et al. 2021, figure 3).
    Ties go by position.
    """
    cosines_NC = images.astype(np.float64) @ weights.astype(np.float64).T
    shares_NC = softmax(scale * cosines_NC)
    best_NC = np.argsort(-shares_NC, axis=1, kind="stable")[:, :top]
    return [
        Prediction(
            name, [Label(classes[c], float(shares[c]), float(cosines[c])) for c in best.tolist()]
        )
        for name, best, shares, cosines in zip(names, best_NC, shares_NC, cosines_NC, strict=True)
    ]


def softmax(logits_NC: Floats) -> Floats:
    """Shares that add up to 1 in each row: N×C."""
    powers = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares
