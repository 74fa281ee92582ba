"""Counting words and labels in bounded memory, however many there are."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

_KEPT = 500_000
_SKETCH = 65_536


class TopCounts:
    """Counts of names, of which only the frequent ones are sure to be kept.

    Up to `kept` names the counts are exact. Beyond, the rarest are forgotten together, all that
    have the same count or none, so that what is kept does not depend on their order: lossy counting
    (Manku and Motwani, VLDB 2002), with the table's size as the limit. A name that comes back is
    counted anew, so a count can be too low by `forgotten`, and never too high. The result follows
    from the counts and from where they were cut into batches, which the readers fix.
    """

    def __init__(self, *, kept: int = _KEPT) -> None:
        """Begin with no names; between batches, at most `kept` stay in memory."""
        self.total = 0
        self.forgotten = 0
        """What a count may lack at most; 0 where all are exact."""
        self._kept = kept
        self._counts: Counter[str] = Counter()
        self._distinct = Distinct()

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts of one batch."""
        self.total += sum(counts.values())
        self._distinct.add(counts)
        self._counts.update(counts)
        if len(self._counts) > self._kept:
            self._forget()

    @property
    def distinct(self) -> int:
        """How many names there are: exact up to 65,536, else an estimate within about 1 %."""
        return self._distinct.estimate()

    def top(self, limit: int) -> dict[str, int]:
        """The `limit` most frequent names, the most frequent first; equal ones by name."""
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return dict(ranked[:limit])

    def _forget(self) -> None:
        counts = np.fromiter(self._counts.values(), dtype=np.int64, count=len(self._counts))
        # Down to half the limit, for else the next batch would be over it again.
        place = len(counts) - self._kept // 2
        least = max(int(np.partition(counts, place)[place]) - 1, int(counts.min()))
        self._counts = Counter({name: n for name, n in self._counts.items() if n > least})
        self.forgotten += int(counts[counts <= least].max())


class Distinct:
    """How many different names were seen, from the smallest of their hashes.

    The k smallest values of n uniform hashes end at about k/n (Bar-Yossef et al., RANDOM 2002); the
    standard error is 1/√k, 0.4 %. Neither order nor batches matter.
    """

    def __init__(self, *, size: int = _SKETCH) -> None:
        """Begin with no names; `size` is the sketch's k."""
        self._size = size
        self._least = np.empty(0, dtype=np.uint64)

    def add(self, names: Iterable[str]) -> None:
        """Take note of `names`, which may repeat."""
        values = np.array(list(names), dtype=object)
        hashes = pd.util.hash_array(values, categorize=False)
        if len(self._least) == self._size:
            hashes = hashes[hashes < self._least[-1]]
        self._least = np.union1d(self._least, hashes)[: self._size]

    def estimate(self) -> int:
        """Their number: exact while it is below the sketch's size."""
        if len(self._least) < self._size:
            return len(self._least)
        return round((self._size - 1) * 2**64 / int(self._least[-1]))
