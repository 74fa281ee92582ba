"""Pictures that are nearly the same to the base model, whatever their pixels (Abbas et al. 2023).

Every pair is looked at, in blocks: exact, and with a matrix product's speed. Above `MOST` images
that takes too long, and nothing is looked for.

Shapes: N images, B of a block, D width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from pipeline.clip.products import products
from pipeline.clip.store import Embeddings

NEAR = pa.schema([("a", pa.string()), ("b", pa.string()), ("similarity", pa.float32())])
"""Two images, a < b by id, and the cosine of their embeddings."""

MOST = 200_000
"""N²D operations: 100,000 images of width 512 take about a minute and a half on two cores."""

BLOCK = 1024
PARTNERS = 10
"""Pairs kept of each image with images after it, the nearest: a data set of one picture repeated
would have N² otherwise."""

CROWDED = 64
"""Rows with more than that above the limit, looked at together."""


class Found(NamedTuple):
    """The pairs, and how many of them stand in two splits; None where none were looked for.

    Attributes:
        why: the reason, where that was not asked for.
    """

    pairs: pd.DataFrame
    across: int | None
    why: str | None = None


def near(images: Embeddings, split_of: dict[str, str], *, min_similarity: float | None) -> Found:
    """Pairs of images whose cosine is `min_similarity` or more, by id; none where it is None."""
    if min_similarity is None or len(images) > MOST:
        why = None if min_similarity is None else f"{len(images):,} are more than {MOST:,}"
        return Found(pd.DataFrame({name: [] for name in NEAR.names}), None, why)
    parts = list(_pairs(images, min_similarity))
    places = np.concatenate([part[0] for part in parts]) if parts else np.empty((0, 2), np.int64)
    cosines = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, np.float32)
    ids = np.array([image_id.decode() for image_id in images.ids.tolist()], dtype=object)
    splits = np.array([split_of[image_id] for image_id in ids], dtype=object)
    apart = splits[places[:, 0]] != splits[places[:, 1]]
    # Of dtype object, an id that stands in many pairs is in memory once.
    one, two = (pd.Series(ids[places[:, side]], dtype=object) for side in (0, 1))
    table = pd.DataFrame({"a": one, "b": two, "similarity": cosines.astype(np.float32)})
    return Found(table, int(apart.sum()))


def _pairs(
    images: Embeddings, least: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # M×2 rows, M cosines
    for start, ours in images.blocks(BLOCK):
        best = [
            _above(products(ours, theirs), start, first, least)
            for first, theirs in images.blocks(4 * BLOCK)
            if first + len(theirs) > start
        ]
        rows = np.concatenate([part[0] for part in best])
        cosines = np.concatenate([part[1] for part in best])
        order = np.lexsort((rows[:, 1], -cosines, rows[:, 0]))
        rows, cosines = rows[order], cosines[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows[:, 0], rows[:, 0], side="left")
        kept = rank < PARTNERS
        by_id = np.lexsort((rows[kept][:, 1], rows[kept][:, 0]))
        yield rows[kept][by_id], cosines[kept][by_id]


def _above(
    cosines: np.ndarray, start: int, first: int, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rows a < b at or above `least`, of each a the nearest, and their cosines."""
    rows, columns = (np.arange(length) for length in cosines.shape)
    kept = (cosines >= least) & (columns + first > (rows + start)[:, None])
    crowded = np.flatnonzero(kept.sum(axis=1) > PARTNERS)
    for begin in range(0, len(crowded), CROWDED):
        part = crowded[begin : begin + CROWDED]
        kept[part] = _nearest(np.where(kept[part], cosines[part], -np.inf))
    one, two = np.nonzero(kept)
    return np.stack([one + start, two + first], axis=1), cosines[one, two]


def _nearest(cosines: np.ndarray) -> np.ndarray:
    """Which are the `PARTNERS` largest of each of B rows, of equal ones the first: B×M booleans."""
    last = torch.topk(torch.from_numpy(cosines), PARTNERS, dim=1).values[:, -1:].numpy()
    above, equal = cosines > last, cosines == last
    room = PARTNERS - above.sum(axis=1, keepdims=True)
    found: np.ndarray = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return found
