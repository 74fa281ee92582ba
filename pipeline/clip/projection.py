"""Where the pictures lie to the base model, in two dimensions: the first two principal components.

A picture for people, of a sample. Components are those of all images; their signs, which no
definition fixes, are such that a component's largest entry is positive.

Shapes: N images, S of them shown, D width.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.clip.store import Embeddings

SHOWN = 2_000
"""Pictures of the sample, at most: more than that hide each other."""

COLUMNS = ("x", "y", "split", "label")
DIGITS = 4


class Projection(NamedTuple):
    """A row a picture, and the share of the variance that the two axes hold."""

    points: pd.DataFrame
    explained: float


def project(images: Embeddings, pairs: pd.DataFrame) -> Projection:
    """x, y, split and label of up to 2,000 of N images, evenly over their ids, which are hashes.

    The ids are those of `pairs`, which may name each more than once. Fewer than three images have
    no plane: no point, and nothing explained.
    """
    if len(images) < 3:
        return Projection(pd.DataFrame({name: [] for name in COLUMNS}), 0.0)
    mean, axes, explained = _plane(images)
    step = -(-len(images) // SHOWN)
    places = np.arange(0, len(images), step)
    points = (torch.from_numpy(images.rows(places)).double() - mean) @ axes
    ids = [images.ids[place].decode() for place in places.tolist()]
    known = pairs.drop_duplicates("image_id").set_index("image_id").loc[ids]
    table = pd.DataFrame(
        {
            "x": points[:, 0].numpy().round(DIGITS),
            "y": points[:, 1].numpy().round(DIGITS),
            "split": known["split"].to_numpy(),
            "label": known["label"].to_numpy(),
        }
    )
    return Projection(table, round(explained, DIGITS))


def _plane(images: Embeddings) -> tuple[Tensor, Tensor, float]:
    """Mean D, the first two principal axes D×2, and their share of the variance."""
    width = images.width
    total = torch.zeros(width, dtype=torch.float64)
    products = torch.zeros(width, width, dtype=torch.float64)
    for _, vectors in images.blocks():
        block = torch.from_numpy(vectors).double()
        total += block.sum(dim=0)
        products += block.T @ block
    mean = total / len(images)
    covariance = products / len(images) - torch.outer(mean, mean)
    values, vectors_DD = torch.linalg.eigh(covariance)
    axes = vectors_DD[:, -2:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    variance = float(values.clamp(min=0).sum())
    share = float(values[-2:].clamp(min=0).sum()) / variance if variance > 0 else 0.0
    return mean, axes * largest.sign(), share
