"""How far a training has come: a bar where somebody looks, a line a minute in a log."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from tqdm import tqdm

EVERY_S = 60.0
"""Seconds between two lines, where there is no bar."""

Item = TypeVar("Item")


class Steps(Generic[Item]):
    """The steps of an epoch as they are taken, with the time that is left."""

    def __init__(
        self,
        order: Iterable[Item],
        name: str,
        *,
        done: int,
        of: int,
        after: int,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`done` of `of` steps were taken; `after` more come in later epochs. `quiet`: no bar."""
        self._bar = tqdm(order, name, of, initial=done, leave=False, disable=quiet or None)
        self._name, self._of, self._after, self._clock = name, of, after, clock
        self._start = self._last = clock()
        self._here, self._done = 0, done

    def __iter__(self) -> Iterator[Item]:
        """The items of `order`."""
        return iter(self._bar)

    def took(self, loss: float) -> None:
        """A step was taken."""
        self._here += 1
        self._done += 1
        now = self._clock()
        if not self._bar.disable:
            self._bar.set_postfix_str(f"loss {loss:.3f}, {self._left(now)} left in all", False)
        elif now - self._last >= EVERY_S:
            self._last = now
            tqdm.write(
                f"{self._name}: step {self._done:,} of {self._of:,}, loss {loss:.3f}, "
                f"{self._left(now)} left in all"
            )

    def _left(self, now: float) -> str:
        each = (now - self._start) / self._here
        left: str = tqdm.format_interval(each * (self._of - self._done + self._after))
        return left
