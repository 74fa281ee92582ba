"""What a search shows first, for a few queries: enough to see what a number means.

Shapes: N images, U texts, P pairs of an image and a text, Q queries, M items, D width.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.evaluation.exact import CPU, Floats, Grid, Integers, Matrix

FIRST = 5
"""Answers shown of each query."""
EACH = 3
"""Queries of each direction that are answered rightly, and as many that are not."""
QUERIES, ITEMS = 256, 2**14
"""Of a block of scores."""

COLUMNS = ("direction", "query", "own", "best", "rank", "item", "cosine", "right")


class Searched(NamedTuple):
    """One direction: queries and items by position, and what belongs together.

    Attributes:
        direction: `image_to_text` or `text_to_image`.
        queries, items: vectors Q×D and M×D of unit length.
        query_names, item_names: ids of images, or texts: Q and M.
        query, item: P pairs that belong together.
    """

    direction: str
    queries: Matrix
    items: Matrix
    query_names: Sequence[str]
    item_names: Sequence[str]
    query: Integers
    item: Integers


def top(
    queries: Matrix, items: Matrix, k: int, *, device: torch.device = CPU
) -> tuple[Integers, Floats]:
    """The k nearest of M items to each of Q queries and their cosines: Q×k, Q×k, best first.

    Equal ones stand by position; k is at most M. Vectors have unit length.
    """
    query_grid, item_grid = Grid(queries, device=device), Grid(items, device=device)
    k = min(k, len(items))
    found = [
        _nearest_of(query_grid[start : start + QUERIES], item_grid, k)
        for start in range(0, len(queries), QUERIES)
    ]
    indices = [np.empty((0, k), np.int64), *(place for place, _ in found)]
    cosines = [np.empty((0, k)), *(cosine for _, cosine in found)]
    return np.concatenate(indices), np.concatenate(cosines)


def _nearest_of(query_QD: Tensor, items: Grid, k: int) -> tuple[Integers, Floats]:
    """Items are taken a block at a time: all of them on the grid would be a copy in float64.

    What was best so far stands before a block, so equal ones stay in their order.
    """
    device = query_QD.device
    best_Qk = torch.empty((len(query_QD), 0), dtype=torch.float64, device=device)
    place_Qk = torch.empty((len(query_QD), 0), dtype=torch.int64, device=device)
    for start in range(0, len(items), ITEMS):
        scores_QK = query_QD @ items[start : start + ITEMS].T
        width = scores_QK.shape[1]
        places_QK = torch.arange(start, start + width, device=device).expand_as(scores_QK)
        both_QK = torch.cat((best_Qk, scores_QK), dim=1)
        order_Qk, best_Qk = _first(both_QK, min(k, both_QK.shape[1]))
        place_Qk = torch.cat((place_Qk, places_QK), dim=1).gather(1, order_Qk)
    return place_Qk.cpu().numpy(), best_Qk.cpu().numpy()


def _first(scores_QM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places and values of the k largest, Q×k both, in their order.

    A sort of all M takes many times as long, and `topk` leaves open which of equal ones it takes.
    """
    last_Q1 = scores_QM.topk(k, dim=1).values[:, -1:]
    above_QM, equal_QM = scores_QM > last_Q1, scores_QM == last_Q1
    lacking_Q1 = k - above_QM.sum(dim=1, keepdim=True)
    taken_QM = above_QM | (equal_QM & (equal_QM.cumsum(dim=1) <= lacking_Q1))
    place_Qk = taken_QM.nonzero()[:, 1].reshape(len(scores_QM), k)
    scores_Qk = scores_QM.gather(1, place_Qk)
    order_Qk = scores_Qk.argsort(dim=1, descending=True, stable=True)
    return place_Qk.gather(1, order_Qk), scores_Qk.gather(1, order_Qk)


def examples(searched: Searched, best: Integers, *, each: int = EACH) -> pd.DataFrame:
    """A few queries with their first answers: a row an answer, in COLUMNS.

    `best` is the rank of the best placed answer that belongs to each query, Q; 0 for what is no
    query. Up to `each` queries with rank 1 and as many with a larger one are taken, by a hash of
    their names, so that nobody picked them; no two of them share an item. `own` is an item that
    belongs to the query, the best placed of them where several do.
    """
    rows: list[tuple[Any, ...]] = []
    belongs = _belonging(searched)
    for way in (best == 1, best > 1):
        chosen = _spread(np.flatnonzero(way), searched.query_names, belongs, each)
        at = np.array(chosen, np.int64)
        indices, cosines = top(searched.queries[at], searched.items, FIRST)
        for query, answers, sure in zip(chosen, indices, cosines, strict=True):
            mine = belongs(query)
            own = _nearest(searched, query, mine)
            named = (
                searched.direction,
                searched.query_names[query],
                searched.item_names[own],
                int(best[query]),
            )
            rows += [
                (*named, rank, searched.item_names[i], float(cosine), i in mine)
                for rank, (i, cosine) in enumerate(zip(answers.tolist(), sure, strict=True), 1)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def both_ways(
    images: Matrix,
    texts: Matrix,
    *,
    ids: Sequence[str],
    captions: Sequence[str],
    image: Integers,
    text: Integers,
    best_text: Integers,
    best_image: Integers,
) -> pd.DataFrame:
    """`examples` of text → image and of image → text.

    N images and U distinct texts with their names, P pairs of them that belong together, and the
    best rank of each image's texts, N, and of each text's images, U.
    """
    text_to_image = Searched("text_to_image", texts, images, captions, ids, text, image)
    image_to_text = Searched("image_to_text", images, texts, ids, captions, image, text)
    parts = [examples(text_to_image, best_image), examples(image_to_text, best_text)]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _belonging(searched: Searched) -> Callable[[int], set[int]]:
    """What gives the items that belong to a query: pairs are sorted once, and no set is kept."""
    order = np.argsort(searched.query, kind="stable")
    query, item = searched.query[order], searched.item[order]

    def items(of: int) -> set[int]:
        return {*item[slice(*np.searchsorted(query, [of, of + 1]))].tolist()}

    return items


def _spread(
    queries: Integers,
    names: Sequence[str],
    belongs: Callable[[int], set[int]],
    count: int,
) -> list[int]:
    """The first `count` of the queries by the hash of their names that share no item."""
    digests = (hashlib.sha256(names[query].encode()).digest()[:8] for query in queries)
    by_hash = np.argsort(np.frombuffer(b"".join(digests), dtype=">u8"), kind="stable")
    chosen: list[int] = []
    taken: set[int] = set()
    for query in queries[by_hash].tolist():
        if len(chosen) == count:
            break
        if not taken & belongs(query):
            chosen.append(query)
            taken |= belongs(query)
    return chosen


def _nearest(searched: Searched, query: int, items: set[int]) -> int:
    own = np.array(sorted(items))
    indices, _ = top(searched.queries[query : query + 1], searched.items[own], 1)
    return int(own[indices[0, 0]])
