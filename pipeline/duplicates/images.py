"""Pictures that are nearly the same: re-encoded, rescaled, cropped a little, brightened.

Candidates come from an index of hashes (pipeline/duplicates/index.py) and are then laid over each
other and compared (pipeline/duplicates/registration.py). The result is a function of the pictures
alone: neither their order nor their ids say which are compared.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.data.signatures import SIZE
from pipeline.duplicates.index import Pairs, candidates
from pipeline.duplicates.planes import Signatures, stack
from pipeline.duplicates.registration import similarities

TWINS = 8
"""Pictures of one signature that are paired with everything; further ones with the first alone."""
BLOCK = 16_384
"""Pairs whose signatures are copied at a time."""


def near_pairs(
    image_ids: Sequence[str], signatures: Sequence[bytes] | Signatures, *, min_similarity: float
) -> pd.DataFrame:
    """Pairs of pictures at least so similar: a, b (ids, a < b), similarity; sorted by a, b.

    `signatures` are those of `image_ids`, as bytes or as rows (N, SIZE); an id appears once. Of
    many pictures alike, not all pairs are listed, yet all hang together: see `TWINS` and
    pipeline/duplicates/index.py. ValueError where ids repeat or signatures don't fit.
    """
    ids = np.array(image_ids, dtype=object)
    rows = _rows(signatures)
    if len(rows) != len(ids) or len(set(image_ids)) != len(ids):
        raise ValueError(f"{len(rows)} signatures, {len(ids)} ids, {len(set(image_ids))} distinct")
    distinct, members = _twins(ids, rows)
    pairs, similarity = _compared(distinct, candidates(distinct), min_similarity)
    names = [ids[of] for of in members]
    found = [(a, b, 1.0) for of in names for a, b in _within(of)]
    for (one, two), value in zip(pairs.tolist(), similarity.tolist(), strict=True):
        found += [(a, b, value) for a in names[one][:TWINS] for b in names[two][:TWINS]]
    return _table(found)


def _rows(signatures: Sequence[bytes] | Signatures) -> Signatures:
    if not isinstance(signatures, np.ndarray):
        return stack(signatures)
    if signatures.dtype != np.uint8 or signatures.shape[1:] != (SIZE,):
        raise ValueError(f"signatures are {signatures.dtype} {signatures.shape}, not (N, {SIZE})")
    return signatures


def _twins(
    ids: NDArray[np.object_], rows: Signatures
) -> tuple[Signatures, list[NDArray[np.int64]]]:
    """The distinct signatures, dark before bright, and the places of each one's ids, sorted.

    In this order two blank pictures that are next to each other look alike, which the index needs.
    Digests stand for signatures where those are sorted, so that they are copied once only.
    """
    digests = b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in rows)
    _, first, group = np.unique(
        np.frombuffer(digests, "V16"), return_index=True, return_inverse=True
    )
    light = np.argsort(rows.sum(axis=1, dtype=np.int64)[first], kind="stable")
    place = np.empty(len(light), np.int64)
    place[light] = np.arange(len(light))
    ordered = np.lexsort((ids, place[group]))
    sizes = np.bincount(group, minlength=len(first))[light]
    members = np.split(ordered, np.cumsum(sizes)[:-1]) if len(ids) else []
    return rows[first[light]], members


def _within(of: NDArray[np.object_]) -> list[tuple[str, str]]:
    """Pairs of pictures that have the same signature."""
    few = [(a, b) for i, a in enumerate(of[:TWINS]) for b in of[i + 1 : TWINS]]
    return few + [(of[0], b) for b in of[TWINS:]]


def _compared(
    distinct: Signatures, pairs: Pairs, least: float
) -> tuple[Pairs, NDArray[np.float64]]:
    parts = [
        similarities(distinct[part[:, 0]], distinct[part[:, 1]])
        for part in (pairs[i : i + BLOCK] for i in range(0, len(pairs), BLOCK))
    ]
    similarity = np.concatenate([np.zeros(0), *parts])
    kept = similarity >= least
    return pairs[kept], similarity[kept]


def _table(found: list[tuple[str, str, float]]) -> pd.DataFrame:
    ordered = sorted((min(a, b), max(a, b), similarity) for a, b, similarity in found)
    return pd.DataFrame(
        {
            "a": pd.Series([a for a, _, _ in ordered], dtype=str),
            "b": pd.Series([b for _, b, _ in ordered], dtype=str),
            "similarity": pd.Series([value for _, _, value in ordered], dtype=float),
        }
    )
