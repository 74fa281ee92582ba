"""Looking at every image of a source: where it lies, what it is, and what is wrong with it."""

import contextlib
import gc
import os
import stat
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pipeline.data.decoding import Task
from pipeline.data.facts import ImageFacts, judge
from pipeline.data.facts_cache import FactsCache
from pipeline.data.file_state import State
from pipeline.data.images import inside
from pipeline.data.workers import Workers
from pipeline.params import ValidateParams

Request = tuple[str, int | None, int | None]
"""A file, from the root, and where the image is a part of it offset and length."""

LOOKED_UP = 2_000
"""Files asked for at once."""

FOLDERS = 65_536
"""Real paths of folders that are kept at hand."""


class _Found(NamedTuple):
    """An image that can be read: what to examine, and what the cache knows it by."""

    task: Task
    key: str
    state: State


class _File(NamedTuple):
    """A file that can be read."""

    path: str
    state: State


class Inspector:
    """Inspects images in worker processes, with what earlier runs found; a context manager.

    What it finds does not depend on the number of workers (by default one a processor, or the
    variable CLIPTUNE_WORKERS) nor on `cache`, a file or None.
    """

    def __init__(
        self,
        root: Path,
        limits: ValidateParams,
        *,
        cache: Path | None,
        workers: int | None = None,
    ) -> None:
        """Open the cache; processes start when there is something to decode."""
        self._root, self._limits = root, limits
        self._cache = None if cache is None else FactsCache(cache)
        filled = self._cache is not None and self._cache.holds_facts()
        self._workers = Workers(
            max_pixels=limits.max_pixels,
            cache=cache if filled else None,
            decoder=b"" if self._cache is None else self._cache.decoder,
            count=workers,
        )

    def __enter__(self) -> Self:
        """The inspector itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes and close the cache."""
        self._workers.__exit__(kind, error, trace)
        if self._cache is not None:
            self._cache.close()

    def inspect(
        self, requests: Sequence[Request], *, packed: Path | None = None
    ) -> list[ImageFacts]:
        """The facts of each image, in the order asked for; one asked for twice is read once.

        Files start from the root, or from `packed`: those are written anew before each run, so the
        cache knows their images by content alone.
        """
        with _collector_off():
            return self._inspected(requests, packed)

    def _inspected(self, requests: Sequence[Request], packed: Path | None) -> list[ImageFacts]:
        root = self._root if packed is None else packed
        known, found = self._located(root, dict.fromkeys(requests))
        if self._cache is not None and packed is None:
            by_key = self._known(self._cache, {w.key: w.state for w in found.values()})
            known |= {r: by_key[where.key] for r, where in found.items() if where.key in by_key}
        missing = [request for request in found if request not in known]
        examined = list(self._workers.examine([found[request].task for request in missing]))
        if self._cache is not None:
            looked = zip((found[request] for request in missing), examined, strict=True)
            self._cache.add(
                (where.key if packed is None else None, where.state, facts)
                for where, facts in looked
            )
        known |= dict(zip(missing, examined, strict=True))
        judged = {request: judge(facts, self._limits) for request, facts in known.items()}
        return [judged[request] for request in requests]

    def _known(self, cache: FactsCache, states: dict[str, State]) -> dict[str, ImageFacts]:
        """What the cache knows of files.

        Those that changed last come first: if they are new, processes start while it goes on.
        """
        newest = sorted(states, key=lambda key: states[key].ctime_ns, reverse=True)
        found: dict[str, ImageFacts] = {}
        for start in range(0, len(newest), LOOKED_UP):
            part = newest[start : start + LOOKED_UP]
            found |= cache.known({key: states[key] for key in part})
            if len(found) < start + len(part):
                self._workers.start()
        return found

    def _located(
        self, root: Path, requests: dict[Request, None]
    ) -> tuple[dict[Request, ImageFacts], dict[Request, _Found]]:
        """What is wrong without a look inside, and what else is to be examined."""
        real = os.path.realpath(root)
        folder_of = lru_cache(FOLDERS)(partial(_real_folder, root))
        files: dict[str, _File | ImageFacts] = {}
        wrong: dict[Request, ImageFacts] = {}
        found: dict[Request, _Found] = {}
        for request in requests:
            name, offset, length = request
            if name not in files:
                cut = name.rfind("/") + 1
                files[name] = _file(root, name, folder_of(name[:cut]), name[cut:])
            file = files[name]
            if isinstance(file, ImageFacts):
                wrong[request] = file
                continue
            size = file.state.size if length is None else length
            if size == 0:
                wrong[request] = ImageFacts(problem="image_empty", value=name)
            elif size > self._limits.max_bytes:
                value = f"{size} bytes"
                wrong[request] = ImageFacts(problem="image_too_many_bytes", value=value)
            else:
                key = f"{real}\0{name}" + ("" if offset is None else f"\0{offset}\0{length}")
                found[request] = _Found(Task(file.path, offset, length), key, file.state)
        return wrong, found


def _file(root: Path, name: str, folder: str | None, last: str) -> _File | ImageFacts:
    """The regular file that `name` leads to, or what is wrong with it; nothing is opened."""
    if folder is None or "\0" in name:
        return ImageFacts(problem="image_outside_root", value=name)
    looked = time.time_ns()
    path = f"{folder}/{last}"
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode) or last in ("", ".", ".."):
            leads = inside(root, name)
            if leads is None:
                return ImageFacts(problem="image_outside_root", value=name)
            path, found = str(leads), os.stat(leads)
    except (OSError, ValueError):
        return ImageFacts(problem="image_missing", value=name)
    if not stat.S_ISREG(found.st_mode):  # a folder; or a pipe, on which reading would never end
        return ImageFacts(problem="image_missing", value=name)
    return _File(path, State.of(found, looked))


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Don't look for cycles while a hundred thousand small things are made and kept.

    That took a quarter of a look at files that had not changed.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _real_folder(root: Path, folder: str) -> str | None:
    path = inside(root, folder)
    return None if path is None else str(path)
