"""Signals that end a process wait while a step changes the weights, so that none is half taken.

With several processes each hears of it at another moment: it is noted, and all end after one step.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def held() -> Iterator[None]:
    """Inside, no handler runs; the first signal that came is delivered at the end.

    Python runs handlers in its main thread alone: in another there is nothing to hold.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextmanager
def noted() -> Iterator[Callable[[], int]]:
    """Inside, signals that end a process are noted and nothing else: yields which came, or 0."""
    came = [0]

    def note(number: int, _: FrameType | None) -> None:
        came[0] = number

    previous = {
        number: signal.signal(number, note)
        for number in SIGNALS
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield lambda: came[0]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
