"""Looking at every image of a source: where it lies, what it is, and what is wrong with it."""

import contextlib
import gc
import os
import stat
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pipeline.data.decoding import Task
from pipeline.data.facts import ImageFacts, judge
from pipeline.data.facts_cache import FactsCache
from pipeline.data.file_state import State
from pipeline.data.images import inside
from pipeline.data.workers import FEW, Workers
from pipeline.params import ValidateParams

Request = tuple[str, int | None, int | None]
"""A file, from the root, and where the image is a part of it offset and length."""

LOOKED_UP = 2_000
"""Files asked for at once."""

ASKED = 1_000
"""Folders that are asked whether they changed."""

FOLDERS = 65_536
"""Real paths of folders that are kept at hand."""


class _Found(NamedTuple):
    """An image that can be read: what to examine, and what the cache knows it by."""

    path: str
    offset: int | None
    length: int | None
    key: str
    state: State

    @property
    def task(self) -> Task:
        """What a process is to do."""
        return Task(self.path, self.offset, self.length)


_Begun = dict[Request, Iterator[ImageFacts]]
"""Images that are being examined; one iterator gives the facts of all, in this order."""


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
        self._last_ns = 0 if cache is None or not cache.is_file() else cache.stat().st_mtime_ns
        self._cache = None if cache is None else FactsCache(cache)
        self._filled = self._cache is not None and self._cache.holds_facts()
        self._workers = Workers(
            max_pixels=limits.max_pixels,
            cache=cache if self._filled else None,
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
        if self._filled and packed is None and self._grew({name for name, _, _ in requests}):
            self._workers.start()
        known, found = self._located(root, dict.fromkeys(requests))
        begun: _Begun = {}
        if self._cache is not None and packed is None:
            seen, begun = self._known(self._cache, found)
            known |= seen
        examined = {request: next(facts) for request, facts in begun.items()}
        missing = [request for request in found if request not in known and request not in begun]
        others = self._workers.examine([found[request].task for request in missing])
        examined |= dict(zip(missing, others, strict=True))
        if self._cache is not None:
            self._cache.add(
                (found[request].key if packed is None else None, found[request].state, facts)
                for request, facts in examined.items()
            )
        known |= examined
        judged = {request: judge(facts, self._limits) for request, facts in known.items()}
        return [judged[request] for request in requests]

    def _grew(self, names: set[str]) -> bool:
        """Whether a folder changed since the last run, so that most likely there are new images.

        False where there are too many folders to ask.
        """
        folders = {name[: name.rfind("/") + 1] for name in names}
        with contextlib.suppress(OSError, ValueError):
            return len(folders) <= ASKED and any(
                os.stat(self._root / folder).st_mtime_ns > self._last_ns for folder in folders
            )
        return False

    def _known(
        self, cache: FactsCache, found: dict[Request, _Found]
    ) -> tuple[dict[Request, ImageFacts], _Begun]:
        """What the cache knows of files, and those of which examination has begun.

        Files that changed last come first: new ones are examined while the others are looked up.
        """
        newest = sorted(found, key=lambda request: found[request].state.ctime_ns, reverse=True)
        known: dict[Request, ImageFacts] = {}
        begun: _Begun = {}
        for start, end in pairwise([0, *range(FEW, len(newest), LOOKED_UP), len(newest)]):
            part = newest[start:end]
            by_key = cache.known({found[r].key: found[r].state for r in part})
            known |= {r: by_key[found[r].key] for r in part if found[r].key in by_key}
            if not begun:
                lacking = [request for request in part if request not in known]
                facts = self._workers.examine([found[request].task for request in lacking])
                begun = dict.fromkeys(lacking, facts)
        return known, begun

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
                found[request] = _Found(file.path, offset, length, key, file.state)
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
