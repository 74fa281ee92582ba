"""Boilerplate found by frequency: phrases that many captions begin or end with, set off by a mark.

Only a mark that running text seldom has sets a phrase off: `|`, a bullet, a bracket, a dash between
spaces. Behind commas, colons and full stops stands content, however often it comes: "a cat, a type
of pet", "a portrait, oil on canvas", "This will be your starting position." in a fourth of real
exercise instructions. They are looked at only where a strong mark follows in the same phrase:
", Buy now at Shop | free shipping".
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captions.phrases import at_an_end

MIN_WORDS = 3
MAX_WORDS = 20
MIN_CAPTIONS = 20
TOGETHER = 0.9
"""A phrase reaches over a mark to the next words where these come with it this often."""

OWN_WORD = 0.9
OWN_SHARE = 1 / 3
MIN_OWN_WORDS = 2
"""A third of a phrase's words, and two, are its own: of the captions that have such a word, 90 %
have it in a phrase alone.

Boilerplate has words of its own (shipping, enlarge); "black and white" and "men's casual shirt" are
made from what other captions say too.
"""

_MARKS_LOOKED_AT = 6
_BUCKETS = 1 << 22
_BLOCK = 50_000
_CAPTIONS_FOR_WORDS = 20_000
_STRONG = re.compile(r"[|•·»¦(\[]|\s[-–—]+\s")
_MARK = re.compile(r"\s*[|•·»¦(\[]\s*|\s+[-–—]+\s+|\s*[,;:.!?]\s+")
_EDGE = " \t\n.,;:!?|()[]•·»¦-–—"
_WORD = re.compile(r"\w+")


def frequent_phrases(captions: pd.Series, *, share: float) -> list[str]:
    """Phrases of 3 to 20 words that end or begin `share` of all distinct captions, and at least 20.

    Phrases are compared without regard to case and given as they first appear, the commonest first.
    Time grows with the number of captions; memory, beyond the distinct captions, does not: a first
    pass counts ends by hash in a table of fixed size, and a second one counts by name only those
    that reach the share there.
    """
    distinct = pa.array(captions, type=pa.large_string(), from_pandas=True).unique()
    least = max(MIN_CAPTIONS, int(np.ceil(share * len(distinct))))
    marked = distinct.filter(pc.match_substring_regex(distinct, _STRONG.pattern))
    if len(marked) < least:
        return []
    counts, ends = _counted(marked, least)
    found = {key for key in ends if ends[key].words >= MIN_WORDS and _is_whole(key, counts, ends)}
    own = _own_words([ends[key].text for key in found], distinct)
    kept = [key for key in found if _is_boilerplate(_words(ends[key].text), own)]
    in_order = sorted(kept, key=lambda key: (-counts[key], key))
    return list(dict.fromkeys(ends[key].text for key in in_order))


class _End(NamedTuple):
    """What ends (or begins) a caption, set off by a mark.

    `shorter` is the key of the end within this one, over a mark, or None.
    """

    text: str
    words: int
    shorter: str | None


def _counted(captions: pa.Array, least: int) -> tuple[Counter[str], dict[str, _End]]:
    """How many captions have each end, for those that at least `least` have."""
    buckets = np.zeros(_BUCKETS, dtype=np.int64)
    for block in _blocks(captions):
        keys = [_bucket(key) for caption in block for key in _ends(caption)]
        buckets += np.bincount(keys, minlength=_BUCKETS)
    counts: Counter[str] = Counter()
    first: dict[str, _End] = {}
    for block in _blocks(captions):
        for caption in block:
            for key, end in _ends(caption).items():
                if buckets[_bucket(key)] >= least:
                    counts[key] += 1
                    first.setdefault(key, end)
    return counts, {key: end for key, end in first.items() if counts[key] >= least}


def _ends(caption: str) -> dict[str, _End]:
    """The ends of a caption by key; each begins after, or stops before, one more of its marks.

    The key is the end's side and its text in lower case.
    """
    marks = list(_MARK.finditer(caption)) if _STRONG.search(caption) else []
    tails = [(m, caption[m.end() :], caption[: m.start()]) for m in reversed(marks)]
    heads = [(m, caption[: m.start()], caption[m.end() :]) for m in marks]
    return _chain(">", tails) | _chain("<", heads)


def _chain(side: str, cuts: list[tuple[re.Match[str], str, str]]) -> dict[str, _End]:
    ends: dict[str, _End] = {}
    strong, shorter = False, None
    for mark, end, rest in cuts[:_MARKS_LOOKED_AT]:
        text = " ".join(end.strip(_EDGE).split())
        words = len(_WORD.findall(text))
        strong = strong or _STRONG.search(mark.group()) is not None
        if words > MAX_WORDS or not _WORD.search(rest):
            break
        if words and strong:
            key = side + text.casefold()
            ends[key] = _End(text, words, shorter)
            shorter = key
    return ends


def _is_whole(key: str, counts: Counter[str], ends: dict[str, _End]) -> bool:
    """Whether all of an end is one phrase: each mark in it has the same words on both sides."""
    shorter = ends[key].shorter
    if shorter is None:
        return True
    return counts[key] >= TOGETHER * counts[shorter] and _is_whole(shorter, counts, ends)


def _is_boilerplate(words: set[str], own: set[str]) -> bool:
    count = len(words & own)
    return count >= MIN_OWN_WORDS and count >= OWN_SHARE * len(words)


def _own_words(phrases: list[str], captions: pa.Array) -> set[str]:
    """Words that captions have hardly ever outside of `phrases`, by 20,000 captions at most."""
    if not phrases:
        return set()
    strip = at_an_end(phrases)
    words = set().union(*(_words(phrase) for phrase in phrases))
    said: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for block in _blocks(captions[:: -(-len(captions) // _CAPTIONS_FOR_WORDS)]):
        for caption in block:
            said.update(words & _words(caption))
            outside.update(words & _words(strip(caption)))
    return {word for word in words if outside[word] <= (1 - OWN_WORD) * said[word]}


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _blocks(captions: pa.Array) -> Iterator[list[str]]:
    for start in range(0, len(captions), _BLOCK):
        yield captions.slice(start, _BLOCK).to_pylist()


def _bucket(key: str) -> int:
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % _BUCKETS
