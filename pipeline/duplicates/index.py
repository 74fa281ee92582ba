"""Which pictures may be near-duplicates of each other, without looking at all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index
Hashing", 2012): hashes that differ in few bits agree in one of their thirds, so a picture's
candidates stand in three small buckets. Every picture is filed by the hash of its whole and looked
up by the hashes of all its views (pipeline/duplicates/hashes.py): its crops find it so.

Two limits keep the work in proportion to the number of pictures, whatever they show. A bucket
holds its pictures in the order of the rest of their hash; of a full one, a look-up sees the `NEAR`
around its own place. Ten thousand pictures of one hash (blank ones) are thus chained, each to those
next to it in the given order, and each to the first few. And a picture keeps its `NEAREST`
candidates by Hamming distance; a pair stays when either of the two keeps it.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.duplicates.hashes import Hashes, hashes
from pipeline.duplicates.planes import Signatures

Pairs = NDArray[np.int64]
"""(P, 2): rows a < b, sorted."""

ROTATIONS = (0, 22, 43)
"""Bits that turn each third of a hash to the front."""
BUCKET_BITS = 22
MOST_BITS = 10
"""Hamming distance between a picture and a view beyond which it is no candidate."""
NEAR = 32
NEAREST = 32
BLOCK = 1024
"""Pictures looked up at a time: up to 250 MB of memory."""


def candidates(signatures: Signatures) -> Pairs:
    """Rows of `signatures` (N of them, in an order that does not depend on chance) to compare."""
    count = len(signatures)
    whole = np.concatenate(
        [np.zeros(0, np.uint64)]
        + [hashes(signatures[i : i + BLOCK], views=False)[:, 0] for i in range(0, count, BLOCK)]
    )
    shelves = [_Shelf(whole, rotation) for rotation in ROTATIONS]
    found = [np.zeros(0, np.int64)]
    for start in range(0, count, BLOCK):
        row, asked = _distinct(hashes(signatures[start : start + BLOCK], views=True), start)
        found.append(_keys(shelves, row, asked, whole))
    return _nearest(_least(np.concatenate(found)), count)


class _Shelf:
    """All hashes, turned and sorted; a table says where each bucket starts."""

    def __init__(self, whole: Hashes, rotation: int) -> None:
        self.rotation = rotation
        turned = _turned(whole, rotation)
        self.rows = np.argsort(turned, kind="stable")
        self.turned = turned[self.rows]
        sizes = np.bincount(_bucket(turned), minlength=1 << BUCKET_BITS)
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.places = np.argsort(self.rows, kind="stable")

    def look_up(
        self, row: NDArray[np.int64], asked: Hashes, whole: Hashes
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each row and hash that is asked: (which ask, row found), the latter a neighbour."""
        turned = _turned(asked, self.rotation)
        bucket = _bucket(turned)
        first, last = self.starts[bucket], self.starts[bucket + 1]
        full = np.flatnonzero(last - first > NEAR)
        place = np.searchsorted(self.turned, turned[full])
        # Among equal hashes a picture's own place tells who is next to it.
        place = np.where(asked[full] == whole[row[full]], self.places[row[full]], place)
        low = np.clip(place - NEAR // 2, first[full], last[full] - NEAR)
        first[full], last[full] = low, low + NEAR
        sizes = last - first
        which = np.repeat(np.arange(len(row)), sizes)
        within = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return which, self.rows[first[which] + within]


def _distinct(views: Hashes, start: int) -> tuple[NDArray[np.int64], Hashes]:
    """The distinct hashes of each picture, and the row of the picture, from `start`."""
    ordered = np.sort(views, axis=1)
    new = np.ones(ordered.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    row, _ = np.nonzero(new)
    return row + start, ordered[new]


def _keys(
    shelves: list[_Shelf], row: NDArray[np.int64], asked: Hashes, whole: Hashes
) -> NDArray[np.int64]:
    """Each pair found, as one number: (a · N + b) · 64 + Hamming distance."""
    parts = []
    for shelf in shelves:
        which, other = shelf.look_up(row, asked, whole)
        bits = np.bitwise_count(asked[which] ^ whole[other])
        near = (bits <= MOST_BITS) & (row[which] != other)
        one, two = row[which[near]], other[near]
        pair = np.minimum(one, two) * len(whole) + np.maximum(one, two)
        parts.append(_least(pair * 64 + bits[near]))
    return _least(np.concatenate(parts))


def _least(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each pair once, with its least distance."""
    ordered = np.sort(keys)
    pair = ordered // 64
    new = np.ones(len(ordered), bool)
    new[1:] = pair[1:] != pair[:-1]
    return ordered[new]


def _nearest(keys: NDArray[np.int64], count: int) -> Pairs:
    """The pairs that are among the nearest of one of their two."""
    pair, bits = keys // 64, keys % 64
    a, b = pair // max(count, 1), pair % max(count, 1)
    own, other = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.lexsort((other, np.tile(bits, 2), own))
    place = np.arange(len(order))
    new = np.ones(len(order), bool)
    new[1:] = own[order][1:] != own[order][:-1]
    rank = np.empty(len(order), np.int64)
    rank[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    kept = (rank < NEAREST).reshape(2, -1).any(axis=0)
    return np.stack([a[kept], b[kept]], axis=1)


def _turned(hashes_: Hashes, rotation: int) -> Hashes:
    if not rotation:
        return hashes_
    return (hashes_ << np.uint64(rotation)) | (hashes_ >> np.uint64(64 - rotation))


def _bucket(turned: Hashes) -> NDArray[np.int64]:
    return (turned >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
