"""The pictures of a sample: whether they are there, open, and lie within the limits.

Headers of all are read; whole pictures are decoded until `BUDGET` pixels, which takes a second.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pipeline.data.facts import ImageFacts, examine, judge
from pipeline.data.images import FORMATS, inside
from pipeline.data.places import Place
from pipeline.params import ValidateParams

BUDGET = 60_000_000


class Wanted(NamedTuple):
    """A picture of a row: its bytes, or where in the source they lie."""

    name: str
    file: str | None
    offset: int | None
    length: int | None
    content: bytes | None


class Picture(NamedTuple):
    """What was found: sides in pixels and bytes of the file, or the reason it will be rejected."""

    name: str
    width: int = 0
    height: int = 0
    size: int = 0
    problem: str | None = None


def inspect(wanted: Sequence[Wanted], root: Path, limits: ValidateParams | None) -> list[Picture]:
    """Look at each picture, in order; `limits` None: whatever opens is fine."""
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(partial(_header, root=root, limits=limits), wanted))
        taken, pixels = [], 0
        for i, found in enumerate(headers):
            pixels += found.width * found.height
            if found.problem is None and pixels <= BUDGET:
                taken.append(i)
        decoded = pool.map(partial(_broken, root=root), [wanted[i] for i in taken])
        for i, problem in zip(taken, decoded, strict=True):
            headers[i] = headers[i]._replace(problem=problem)
    return headers


def _bytes(wanted: Wanted, root: Path) -> bytes:
    if wanted.content is not None:
        return wanted.content
    return Place(root / str(wanted.file), wanted.offset, wanted.length).read()


def _header(wanted: Wanted, *, root: Path, limits: ValidateParams | None) -> Picture:
    name, size = wanted.name, wanted.length or 0
    if wanted.content is not None:
        size = len(wanted.content)
    elif wanted.offset is None:
        path = inside(root, wanted.file or name)
        if path is None or not path.is_file():
            lost = "image_outside_root" if path is None else "image_missing"
            return Picture(name, problem=lost)
        size = path.stat().st_size
    if size == 0:
        return Picture(name, problem="image_empty")
    if limits is not None and size > limits.max_bytes:
        return Picture(name, size=size, problem="image_too_many_bytes")
    try:
        with Image.open(_opened(wanted, root), formats=FORMATS) as picture:
            width, height = picture.size
    except Exception:  # Pillow's readers raise whatever a broken file provokes
        return Picture(name, size=size, problem="image_unreadable")
    facts = ImageFacts(width=width, height=height)
    problem = None if limits is None else judge(facts, limits).problem
    return Picture(name, width, height, size, problem)


def _opened(wanted: Wanted, root: Path) -> Path | BytesIO:
    """A whole file by its path, so that no more than its header is read; else the bytes."""
    if wanted.content is None and wanted.offset is None:
        return root / str(wanted.file)
    return BytesIO(_bytes(wanted, root))


def _broken(wanted: Wanted, *, root: Path) -> str | None:
    """The problem with the whole picture, as `validate` will find it."""
    try:
        content = _bytes(wanted, root)
    except OSError:
        return "image_unreadable"
    return examine(content, "", max_pixels=BUDGET).problem
