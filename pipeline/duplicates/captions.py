"""Near-duplicate captions: MinHash and banding find candidates, exact Jaccard decides.

A caption is the set of its words and of its pairs of neighbouring words, case and punctuation aside
(scripts without spaces: characters for words). Both together, so that a single changed word in a
short caption, which often changes its meaning, is no near-duplicate: "a red star" and "a blue star"
share 2 of 8. Methods: Broder, "On the resemblance and containment of documents", 1997; banding:
Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3.

Shapes: N captions, S shingles of all of them, K hash functions, P pairs.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]
Signatures = np.ndarray[Any, np.dtype[np.uint32]]

HASHES = 64
MISSED = 0.005
"""At most this share of the pairs that lie right at the threshold is missed by the banding."""

NEIGHBOURS = 8
"""In a bucket, a caption is compared with this many after it, in the order of their hashes. A
bucket of thousands thus gives a chain, which has the groups of all pairs without their number."""

BLOCK = 50_000
_BASE = 0x5851F42D4C957F2D
_INVERSE = pow(_BASE, -1, 2**64)
_SPACE = 32
_LOWER: Hashes = np.full(256, _SPACE, dtype=np.uint64)
"""By byte, the letter in lower case; all that is no part of a word is a space."""
for _byte in range(256):
    if _byte >= 128 or chr(_byte).isalnum() or chr(_byte) == "_":
        _LOWER[_byte] = _byte | 0x20 if chr(_byte).isascii() and chr(_byte).isalpha() else _byte
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])\w)+")
"""A letter of a script that sets no spaces, or a word of one that does."""


def near_captions(captions: Sequence[str], *, min_similarity: float) -> pd.DataFrame:
    """Pairs of N distinct captions whose Jaccard similarity is at least `min_similarity`.

    Returns a and b (positions, a < b) and similarity, sorted. What is found does not depend on the
    order of the captions. Memory: about 400 bytes a caption.
    """
    if len(captions) < 2:
        return pd.DataFrame({"a": [], "b": [], "similarity": []}).astype({"a": int, "b": int})
    rows = _rows(min_similarity)
    shingles, ends = _shingles(captions)
    signatures = _signatures(shingles, ends)
    order = np.argsort(_of_texts(captions), kind="stable")
    candidates = _candidates(signatures, order, rows=rows, min_similarity=min_similarity)
    similarity = _jaccard(candidates, shingles, ends)
    near = similarity >= min_similarity
    found = pd.DataFrame(
        {"a": candidates[near, 0], "b": candidates[near, 1], "similarity": similarity[near]}
    )
    return found.sort_values(["a", "b"], ignore_index=True)


def shingles_of(caption: str) -> set[str]:
    """The words of a caption, and the pairs of neighbouring words."""
    words = _words(caption)
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}


def _rows(threshold: float) -> int:
    """Hashes a band: as many as miss few pairs at the threshold, for the fewest candidates."""
    for rows in range(HASHES // 2, 1, -1):
        if (1 - threshold**rows) ** (HASHES // rows) <= MISSED:
            return rows
    return 1


def _words(caption: str) -> list[str]:
    text = caption if caption.isascii() else unicodedata.normalize("NFKC", caption)
    return _WORD.findall(text.casefold())


def _shingles(captions: Sequence[str]) -> tuple[Hashes, Places]:
    """Hashes of all captions' shingles one after the other, and where each caption ends."""
    blocks = [
        _hashed_words(captions[start : start + BLOCK]) for start in range(0, len(captions), BLOCK)
    ]
    single = np.concatenate([words for words, _ in blocks])
    ends = np.cumsum(np.concatenate([counts for _, counts in blocks]))
    # Each word gives itself and the pair with the word before; the first of a caption only itself.
    pair = _mix(np.r_[np.uint64(0), single[:-1]] * np.uint64(0x9E3779B97F4A7C15) + single)
    starts = np.r_[0, ends[:-1]]
    pair[starts] = single[starts]
    both = np.empty(2 * len(single), dtype=np.uint64)
    both[0::2], both[1::2] = single, pair
    return both, 2 * ends


def _hashed_words(captions: Sequence[str]) -> tuple[Hashes, Places]:
    """Hashes of the words of N captions, one after the other, and how many each caption has.

    A caption without a word has the hash 0. A word's hash is a polynomial of its bytes mod 2⁶⁴,
    mixed: the difference of two running sums, divided by the power of the first byte's place.
    """
    texts = [text if text.isascii() else " ".join(_words(text)) for text in captions]
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    content = _LOWER[np.frombuffer(b" ".join([b"", *encoded, b""]), np.uint8)]
    inside = content != _SPACE
    start = np.flatnonzero(inside[1:] & ~inside[:-1]) + 1
    end = np.flatnonzero(~inside[1:] & inside[:-1]) + 1
    size = 1 << len(content).bit_length()
    sums = np.zeros(len(content) + 1, dtype=np.uint64)
    np.cumsum(content * _powers(size, _BASE)[: len(content)], out=sums[1:])
    words = _mix((sums[end] - sums[start]) * _powers(size, _INVERSE)[start])
    last = np.cumsum([len(text) + 1 for text in encoded])
    upto = np.searchsorted(start, last)
    counts = np.diff(upto, prepend=0)
    empty = np.flatnonzero(counts == 0)
    counts[empty] = 1
    return np.insert(words, upto[empty], np.uint64(0)), counts


@lru_cache(maxsize=4)
def _powers(count: int, base: int) -> Hashes:
    """base⁰, base¹, … mod 2⁶⁴."""
    found = np.full(count, base, dtype=np.uint64)
    found[0] = 1
    return np.cumprod(found, dtype=np.uint64)


def _of_texts(captions: Sequence[str]) -> Hashes:
    found: Hashes = pd.util.hash_array(np.array(captions, dtype=object), categorize=False)
    return found


def _mix(values: Hashes) -> Hashes:
    """The finaliser of MurmurHash3: every bit of the input moves every bit of the output."""
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xFF51AFD7ED558CCD)
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def _signatures(shingles: Hashes, ends: Places) -> Signatures:
    """N×K: the least value of each hash function over a caption's shingles."""
    random = np.random.default_rng(0)
    factors = random.integers(1, 2**63, size=HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.empty((len(ends), HASHES), dtype=np.uint32)
    for first in range(0, len(ends), BLOCK):
        last = min(first + BLOCK, len(ends))
        start = ends[first - 1] if first else 0
        part = _mix(shingles[start : ends[last - 1]])
        starts = np.r_[start, ends[first : last - 1]] - start
        for k, factor in enumerate(factors):
            values = ((part * factor) >> np.uint64(32)).astype(np.uint32)
            found[first:last, k] = np.minimum.reduceat(values, starts)
    return found


def _candidates(
    signatures: Signatures, order: Places, *, rows: int, min_similarity: float
) -> Places:
    """P×2: pairs that agree in all hashes of some band, and in enough of all, each once."""
    count = len(signatures)
    least = _least_agreement(min_similarity)
    short = signatures.astype(np.uint8)
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, HASHES - rows + 1, rows):
        band = np.zeros(count, dtype=np.uint64)
        for k in range(start, start + rows):
            band = _mix(band * np.uint64(0x9E3779B97F4A7C15) + signatures[:, k].astype(np.uint64))
        place = order[np.argsort(band[order], kind="stable")]
        band = band[place]
        for step in range(1, min(NEIGHBOURS, count - 1) + 1):
            same = np.flatnonzero(band[step:] == band[:-step])
            if not len(same):
                break
            one, two = place[same], place[same + step]
            alike = _agreement(short, one, two) >= least
            one, two = one[alike], two[alike]
            found.append(np.minimum(one, two) * count + np.maximum(one, two))
    keys = np.unique(np.concatenate(found))
    return np.stack([keys // count, keys % count], axis=1)


def _least_agreement(similarity: float) -> float:
    """Hashes that a pair at the threshold agrees in, less four standard deviations.

    That misses one such pair in 30,000, and spares nearly all candidates an exact comparison.
    """
    spread = math.sqrt(HASHES * similarity * (1 - similarity))
    return HASHES * similarity - 4 * spread


def _agreement(short: np.ndarray[Any, np.dtype[np.uint8]], one: Places, two: Places) -> Places:
    """In how many hashes each of P pairs agrees, by the last 8 bits of each."""
    found = np.empty(len(one), dtype=np.int64)
    for first in range(0, len(one), BLOCK):
        part = slice(first, first + BLOCK)
        found[part] = (short[one[part]] == short[two[part]]).sum(axis=1)
    return found


def _jaccard(
    pairs: Places, shingles: Hashes, ends: Places
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The similarity of each of P pairs, from their sets of shingles."""
    found = np.empty(len(pairs), dtype=np.float32)
    starts = np.r_[0, ends[:-1]]
    for first in range(0, len(pairs), BLOCK):
        part = pairs[first : first + BLOCK]
        number, values = [], []
        for side in (0, 1):
            begin, size = starts[part[:, side]], ends[part[:, side]] - starts[part[:, side]]
            owner = np.repeat(np.arange(len(part)), size)
            within = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
            value = shingles[np.repeat(begin, size) + within]
            order = np.lexsort((value, owner))
            owner, value = owner[order], value[order]
            new = np.r_[True, (owner[1:] != owner[:-1]) | (value[1:] != value[:-1])]
            number.append(owner[new])
            values.append(value[new])
        owner, value = np.concatenate(number), np.concatenate(values)
        order = np.lexsort((value, owner))
        owner, value = owner[order], value[order]
        again = (owner[1:] == owner[:-1]) & (value[1:] == value[:-1])
        shared = np.bincount(owner[1:][again], minlength=len(part))
        total = np.bincount(owner, minlength=len(part)) - shared
        found[first : first + BLOCK] = shared / total
    return found
