"""How far embedding has come: a bar for people, a line for logs."""

import sys
import time
from typing import Self

from tqdm import tqdm


class Progress:
    """Counts items of one kind; use it as a context manager."""

    def __init__(self, unit: str, *, total: int, known: int, damaged: int = 0) -> None:
        """Of `total` items `known` are in the cache; `damaged` segments of it were thrown away."""
        self._unit, self._total, self._known, self._damaged = unit, total, known, damaged
        self._done = self._failed = 0
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        """Show the bar, where somebody looks and it takes a while."""
        self._bar = tqdm(
            total=self._total,
            initial=self._known,
            desc=f"embed {self._unit}",
            unit=f" {self._unit}",
            leave=False,
            delay=2,
            disable=None,
        )
        self._tell()
        return self

    def __exit__(self, *raised: object) -> None:
        """Take the bar away, and say in a line what was done."""
        self._bar.close()
        if raised[0] is None:
            sys.stderr.write(self.line() + "\n")

    def done(self, count: int) -> None:
        """`count` more items are embedded."""
        self._done += count
        self._bar.update(count)

    def failed(self) -> None:
        """One more item can't be embedded."""
        self._failed += 1
        self._tell()

    def line(self) -> str:
        """What was done so far, as a sentence."""
        parts = [f"{self._total:,} {self._unit}: {self._known:,} from the cache"]
        seconds = time.monotonic() - self._start
        if self._done:
            rate = self._done / max(seconds, 1e-9)
            parts.append(f"{self._done:,} computed at {rate:,.0f} a second")
        if self._failed:
            parts.append(f"{self._failed:,} can't be decoded")
        if self._damaged:
            parts.append(f"{self._damaged} damaged parts of the cache thrown away")
        return ", ".join(parts)

    def _tell(self) -> None:
        share = self._known / self._total if self._total else 0.0
        self._bar.set_postfix_str(f"{share:.0%} from the cache, {self._failed} errors")
