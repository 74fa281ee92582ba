"""What runs in a worker process: reading images, and examining what is not known yet.

Imports what that takes and no more: no pandas, no pydantic.
"""

import contextlib
import faulthandler
import resource
import signal
import threading
import time
import warnings
from os import _exit, getppid
from pathlib import Path
from typing import NamedTuple

from pipeline.data.facts import ImageFacts, content_id, examine
from pipeline.data.facts_cache import Reader

BASE_BYTES = 3_000_000_000
BYTES_A_PIXEL = 40
"""What a worker may map: a WebP's two canvases at that format's largest size, which are mapped
before its size can be known; and the largest picture in every form between file and RGB."""

_WATCH_S = 1.0


class Task(NamedTuple):
    """An image to examine: a file, or `length` bytes of it from `offset`."""

    path: str
    offset: int | None
    length: int | None


class Settings(NamedTuple):
    """What a worker is told when it starts: by which process, and its bounds for one image."""

    parent: int
    max_pixels: int
    patience_s: float
    cache: str | None
    decoder: bytes


class _Here(NamedTuple):
    """What a worker holds."""

    settings: Settings
    known: Reader | None


_here: list[_Here] = []


def prepare(settings: Settings) -> None:
    """Set a worker up: bounded in memory and time, silent, and ending when its parent does."""
    threading.Thread(target=_end_with, args=(settings.parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a worker even inside a decoder
    faulthandler.disable()  # loky turns it on; a page of traces for each bad image helps nobody
    warnings.simplefilter("ignore")  # Pillow warns of oddities in files; what matters is a problem
    _bound_memory(BASE_BYTES + BYTES_A_PIXEL * settings.max_pixels)
    cache = settings.cache
    known = None if cache is None else Reader(Path(cache), settings.decoder)
    _here[:] = [_Here(settings, known)]


def examine_all(tasks: list[Task]) -> list[ImageFacts]:
    """The facts of each image, in order."""
    (here,) = _here
    return [_timed(task, here) for task in tasks]


def nothing() -> None:
    """What any worker can do that can start at all."""


def _timed(task: Task, here: _Here) -> ImageFacts:
    signal.setitimer(signal.ITIMER_REAL, here.settings.patience_s)
    try:
        return _examined(task, here)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _examined(task: Task, here: _Here) -> ImageFacts:
    try:
        content = _read(task)
    except OSError as error:
        return ImageFacts(problem="image_unreadable", value=error.strerror)
    if task.length is not None and len(content) < task.length:
        return ImageFacts(problem="image_truncated", value="its file ends early")
    image_id = content_id(content)
    known = None if here.known is None else here.known.facts(image_id)
    return known or examine(content, image_id, max_pixels=here.settings.max_pixels)


def _read(task: Task) -> bytes:
    with open(task.path, "rb", buffering=0) as file:
        if task.offset is not None:
            file.seek(task.offset)
        content = file.read(-1 if task.length is None else task.length)
        return content or b""


def _end_with(parent: int) -> None:
    """A worker waits for work for ever; where its parent was killed, nobody tells it to end."""
    while getppid() == parent:
        time.sleep(_WATCH_S)
    _exit(1)


def _bound_memory(more: int) -> None:
    """Let the process map `more` bytes than it has mapped now, where the system can bound that."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        bound = pages * resource.getpagesize() + more
        if most == resource.RLIM_INFINITY or bound < most:
            resource.setrlimit(resource.RLIMIT_AS, (bound, most))
