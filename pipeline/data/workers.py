"""Decoding in processes of their own: a decoder that crashes or hangs costs its image, not the run.

The processes are loky's: they start without importing the program that started them. Work goes to
them in chunks and comes back in order, whatever their number. When one dies, which image it was at
is not told: what was under way is done again, by chunk and then by image.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Self

import loky
from loky.backend import get_context
from loky.process_executor import ProcessPoolExecutor

from pipeline.data.decoding import Settings, Task, examine_all, nothing, prepare
from pipeline.data.facts import ImageFacts
from pipeline.errors import ConfigError, DataError

CHUNK = 32
AHEAD = 3
"""Chunks under way a worker: enough to keep it busy, few enough to do again."""

FEW = 256
"""Images for which one process is enough: to start another takes as long as to decode these."""

START_S = 60.0
TRIES = 3
"""Something else may have ended a process: what is blamed was tried so often, but for hangs."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

Look = Callable[[list[Task]], list[ImageFacts]]
_Flying = tuple[list[Task], "Future[list[ImageFacts]]"]
"""A chunk under way."""


def worker_count() -> int:
    """CLIPTUNE_WORKERS, or the processors that this process may use; ConfigError for no number."""
    said = os.environ.get("CLIPTUNE_WORKERS", "")
    if not said:
        return int(loky.cpu_count())
    if not said.isdecimal() or int(said) == 0:
        raise ConfigError(f"CLIPTUNE_WORKERS is {said!r}: give a number of processes, as in 4")
    return int(said)


def patience(max_pixels: int) -> float:
    """The longest time for one image, in seconds; decoders take some 0.1 s a million pixels."""
    return 30.0 + max_pixels / 1_000_000


class Workers:
    """Processes that examine images; a context manager. They start with the first image."""

    def __init__(
        self,
        *,
        max_pixels: int,
        cache: Path | None,
        decoder: bytes = b"",
        count: int | None = None,
        patience_s: float | None = None,
        look: Look = examine_all,
    ) -> None:
        """`look` is what a process does with a chunk, `patience_s` how long with one image."""
        self._count = count or worker_count()
        self._patience_s = patience(max_pixels) if patience_s is None else patience_s
        self._look = look
        path = None if cache is None else str(cache)
        self._settings = Settings(os.getpid(), max_pixels, self._patience_s, path, decoder)
        self._pool: ProcessPoolExecutor | None = None
        self._size = self._asked = 0

    def __enter__(self) -> Self:
        """The workers themselves."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes."""
        self._stop()

    def start(self) -> None:
        """Start a process, unless one runs; does not wait for it."""
        if self._pool is None:
            self._size = self._size or 1
            self._submit([])

    def examine(self, tasks: Sequence[Task]) -> Iterator[ImageFacts]:
        """The facts of each image, in the order of the tasks; the first are begun at once.

        One call's facts are taken before another's.
        """
        self._asked += len(tasks)
        wanted = 1 if self._asked <= FEW else self._count
        if wanted > self._size:
            self._stop()
            self._size = wanted
        size = max(1, min(CHUNK, len(tasks) // (8 * self._size)))
        waiting = deque(list(tasks[at : at + size]) for at in range(0, len(tasks), size))
        flying: deque[_Flying] = deque()
        self._fly(waiting, flying, at_once=FEW if len(tasks) <= FEW else 0)
        return self._facts(waiting, flying)

    def _facts(self, waiting: deque[list[Task]], flying: "deque[_Flying]") -> Iterator[ImageFacts]:
        while flying:
            chunk, future = flying.popleft()
            found = self._result(chunk, future)
            if found is not None:
                yield from found
            else:
                doubtful = [chunk, *(other for other, _ in flying)]
                flying.clear()
                for chunk in doubtful:
                    yield from self._again(chunk)
            self._fly(waiting, flying)

    def _fly(
        self, waiting: deque[list[Task]], flying: "deque[_Flying]", *, at_once: int = 0
    ) -> None:
        """Keep the processes busy."""
        while waiting and len(flying) < max(AHEAD * self._size, at_once):
            chunk = waiting.popleft()
            flying.append((chunk, self._submit(chunk)))

    def _submit(self, chunk: list[Task]) -> "Future[list[ImageFacts]]":
        future: Future[list[ImageFacts]]
        try:
            future = self._started().submit(self._look, chunk)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        return future

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=self._size,
                context=get_context("loky"),
                initializer=prepare,
                initargs=(self._settings,),
                env=ONE_THREAD,
            )
        return self._pool

    def _result(
        self, chunk: list[Task], future: "Future[list[ImageFacts]]"
    ) -> list[ImageFacts] | None:
        """What a chunk gave, or None where a worker died, or stands still beyond its own alarm."""
        try:
            return future.result(timeout=START_S + self._patience_s * len(chunk))
        except (BrokenProcessPool, FutureTimeoutError):
            self._stop()
            return None

    def _again(self, chunk: list[Task]) -> list[ImageFacts]:
        """The facts of a chunk that was under way when a worker died."""
        found = self._result(chunk, self._submit(chunk)) if len(chunk) > 1 else None
        return [self._alone(task) for task in chunk] if found is None else found

    def _alone(self, task: Task) -> ImageFacts:
        """The facts of an image that may be the one."""
        for _ in range(TRIES):
            self._prove()
            started = time.monotonic()
            found = self._result([task], self._submit([task]))
            if found is not None:
                return found[0]
            if time.monotonic() - started >= 0.95 * self._patience_s:
                took = f"over {self._patience_s:g} s"
                return ImageFacts(problem="image_decoder_too_slow", value=took)
        return ImageFacts(problem="image_decoder_crashed", value="the decoder ended its process")

    def _prove(self) -> None:
        """DataError where not even an idle worker lives: then no image is to blame."""
        for _ in range(TRIES):
            try:
                self._started().submit(nothing).result(timeout=START_S)
            except (BrokenProcessPool, FutureTimeoutError):
                self._stop()
            else:
                return
        raise DataError(
            "the processes that decode images die at once: give them memory, or start fewer of "
            f"them by CLIPTUNE_WORKERS (now {self._count})"
        )

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None
