"""The rank of each thing that belongs to a query, among all that it could be.

Images look for texts and texts for images, so each block of scores serves both. A pair is an image
and a text that belong together; its rank is 1 + how many others score higher, or the same and stand
before it.

Shapes: N images, M texts, P pairs; Q queries and K items of a block.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.exact import CPU, Grid, Integers, Matrix

IMAGES, TEXTS = 1024, 4096
"""Of a block: 32 MB of scores."""
MANY = 32
"""Queries to which more belongs have their scores sorted; comparing would take as many passes."""
ROWS = 2**13
"""Pairs whose own scores are computed at once."""
SORTED = -1
"""In place of a pair's number among those of its query."""


class Pairs(NamedTuple):
    """Which image and which text belong together: P and P, each pair once."""

    image: Integers
    text: Integers


class Ranks(NamedTuple):
    """Of each pair, 1 the best: its text's among all texts, its image's among all images."""

    text: Integers
    image: Integers


class Blocks(NamedTuple):
    """How much is computed at once; no rank depends on it."""

    images: int = IMAGES
    texts: int = TEXTS
    many: int = MANY


def pair_ranks(
    images: Matrix,
    texts: Matrix,
    pairs: Pairs,
    *,
    device: torch.device = CPU,
    blocks: Blocks = Blocks(),  # noqa: B008  a tuple of constants
) -> Ranks:
    """Ranks of P pairs among images N×D and texts M×D, finite, computed on `device` in float64."""
    image_grid, text_grid = Grid(images, device=device), Grid(texts, device=device)
    own = _own(image_grid, text_grid, pairs)
    text_side = _Side(pairs.image, pairs.text, own, most=blocks.many)
    image_side = _Side(pairs.text, pairs.image, own, most=blocks.many)
    if text_side.counts or image_side.counts:
        for first_text in range(0, len(text_grid), blocks.texts):
            text_KD = text_grid[first_text : first_text + blocks.texts]
            for first_image in range(0, len(image_grid), blocks.images):
                image_QD = image_grid[first_image : first_image + blocks.images]
                scores_QK = image_QD @ text_KD.T
                text_side.count(scores_QK, first_image, first_text)
                image_side.count(scores_QK.T, first_text, first_image)
    size = blocks.images * blocks.texts
    text_side.sort(image_grid, text_grid, size=size)
    image_side.sort(text_grid, image_grid, size=size)
    return Ranks(text_side.ranks(), image_side.ranks())


def _own(images: Grid, texts: Grid, pairs: Pairs) -> Tensor:
    """The score of each pair: P."""
    parts = [
        (images[pairs.image[start : start + ROWS]] * texts[pairs.text[start : start + ROWS]]).sum(1)
        for start in range(0, len(pairs.image), ROWS)
    ]
    return torch.cat(parts)


class _Side:
    """One way: what stands before each pair's item for its query. Pairs are held by query."""

    def __init__(self, query: Integers, item: Integers, own: Tensor, *, most: int) -> None:
        """P queries, items and scores; a query with more than `most` items is sorted."""
        self._order = np.lexsort((item, query))
        self._query, self._item = query[self._order], item[self._order]
        device = own.device
        self._own = own[torch.from_numpy(self._order).to(device)]
        self._items = torch.from_numpy(self._item).to(device)
        first = np.searchsorted(self._query, self._query)
        of_query = np.searchsorted(self._query, self._query, side="right") - first
        self._layer = np.where(of_query > most, SORTED, np.arange(len(query)) - first)
        self._before = torch.zeros(len(query), dtype=torch.int64, device=device)
        self.counts = bool((self._layer != SORTED).any())

    def count(self, scores_QK: Tensor, first_query: int, first_item: int) -> None:
        """Take a block of scores into account."""
        block = range(*np.searchsorted(self._query, [first_query, first_query + len(scores_QK)]))
        layers = self._layer[block.start : block.stop]
        for layer in range(int(layers.max(initial=SORTED)) + 1):
            pairs = block.start + np.flatnonzero(layers == layer)
            rows = self._query[pairs] - first_query
            whole = len(rows) == len(scores_QK)
            chosen = scores_QK if whole else scores_QK[self._there(rows)]
            self._count(chosen, self._there(pairs), first_item)

    def _count(self, scores_LK: Tensor, pairs: Tensor, first_item: int) -> None:
        """A row of scores for each of L pairs."""
        own, place = self._own[pairs], self._items[pairs] - first_item
        width = scores_LK.shape[1]
        # An equal score in front counts as well: all that is above the next smaller number.
        limit = torch.where(place >= width, torch.nextafter(own, -torch.ones_like(own) * 4), own)
        self._before[pairs] += _how_many(scores_LK > limit[:, None])
        here = torch.nonzero((place >= 0) & (place < width))[:, 0]
        if len(here):
            equal = scores_LK[here] == own[here, None]
            front = torch.arange(width, device=own.device) < place[here, None]
            self._before[pairs[here]] += _how_many(equal & front)

    def sort(self, queries: Grid, items: Grid, *, size: int) -> None:
        """Rank the pairs of queries to which many items belong, `size` scores at a time."""
        of_them = np.unique(self._query[self._layer == SORTED])
        step = max(1, size // max(len(items), 1))
        wide = max(1, size // 8 // max(step, 1))
        for start in range(0, len(of_them), step):
            chosen = of_them[start : start + step]
            query_QD = queries[chosen]
            parts = [query_QD @ items[i : i + wide].T for i in range(0, len(items), wide)]
            order_QN = torch.argsort(torch.cat(parts, dim=1), dim=1, descending=True, stable=True)
            place_QN = torch.empty_like(order_QN)
            place_QN.scatter_(
                1, order_QN, torch.arange(len(items), device=order_QN.device).expand_as(order_QN)
            )
            pairs = np.flatnonzero(np.isin(self._query, chosen))
            rows = self._there(np.searchsorted(chosen, self._query[pairs]))
            there = self._there(pairs)
            self._before[there] = place_QN[rows, self._items[there]]

    def ranks(self) -> Integers:
        """Of the pairs as they were given: P."""
        found = np.empty(len(self._order), dtype=np.int64)
        found[self._order] = self._before.cpu().numpy() + 1
        return found

    def _there(self, rows: Integers) -> Tensor:
        return torch.from_numpy(rows).to(self._own.device)


def _how_many(found_LK: Tensor) -> Tensor:
    """True values of each row; summed as floats, which is exact here and many times as fast."""
    return found_LK.to(torch.float32).sum(1).to(torch.int64)
