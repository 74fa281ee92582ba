"""A number for each digest, in 40 bytes where a dict takes 200."""

from collections.abc import Iterable
from typing import Any

import numpy as np

_RECENT = 262_144
_DIGEST = "S32"


class Digests:
    """Maps SHA-256 digests to whole numbers.

    New ones wait in a dict, and join the sorted array when there are many of them: to move the
    array for each would take quadratic time.
    """

    def __init__(self, *, recent: int = _RECENT) -> None:
        """Begin with none; at most `recent` wait."""
        self._limit = recent
        self._recent: dict[bytes, int] = {}
        self._digests: np.ndarray[Any, Any] = np.empty(0, dtype=_DIGEST)
        self._numbers = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """How many digests have a number."""
        return len(self._recent) + len(self._digests)

    def find(self, digests: Iterable[bytes]) -> dict[bytes, int]:
        """The numbers of those among `digests` that have one."""
        asked = list(dict.fromkeys(digests))
        found = {digest: self._recent[digest] for digest in asked if digest in self._recent}
        if asked and len(self._digests):
            keys = np.array(asked, dtype=_DIGEST)
            places = np.minimum(np.searchsorted(self._digests, keys), len(self._digests) - 1)
            hits = np.flatnonzero(self._digests[places] == keys)
            found |= {asked[hit]: int(self._numbers[places[hit]]) for hit in hits}
        return found

    def add(self, digest: bytes, number: int) -> None:
        """Give a number to a digest that has none."""
        self._recent[digest] = number
        if len(self._recent) >= self._limit:
            self._settle()

    def _settle(self) -> None:
        digests = np.concatenate([self._digests, np.array(list(self._recent), dtype=_DIGEST)])
        recent = np.fromiter(self._recent.values(), dtype=np.int64, count=len(self._recent))
        order = np.argsort(digests, kind="stable")
        self._digests = digests[order]
        self._numbers = np.concatenate([self._numbers, recent])[order]
        self._recent = {}
