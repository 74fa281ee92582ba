"""Pictures that no stage has validated: which files are meant, and each within limits or not."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pipeline.data.images import open_image, opened
from pipeline.data.places import Place
from pipeline.data.sources.folders import walk
from pipeline.data.sources.rows import is_image, is_unread
from pipeline.errors import DataError

BYTES_A_PIXEL = 8
"""Of a picture that is stored whole, with four channels of 16 bits."""


class Unread(NamedTuple):
    """A file that gave no picture, and why."""

    name: str
    why: str


class Listed(NamedTuple):
    """Files by their names, and those of kinds that are not read."""

    files: dict[str, Path]
    unread: list[Unread]


def listed(folder: Path) -> Listed:
    """The images below `folder` by their paths from there, sorted; DataError where there are none.

    Hidden files are left out, links to folders are not followed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name one that holds images")
    names = list(walk(folder))
    files = {name: folder / name for name in names if is_image(name)}
    unread = [
        Unread(name, f"{Path(name).suffix.lower()} images are not read: convert it to JPEG or PNG")
        for name in names
        if is_unread(name)
    ]
    if not files:
        also = f", and {len(unread):,} of kinds that are not read" if unread else ""
        raise DataError(f"{folder} holds no images (JPEG, PNG, WebP, GIF, BMP, TIFF){also}")
    return Listed(files, unread)


def named(paths: Sequence[Path]) -> Listed:
    """The files that are named, and for each folder the images below it, in this order."""
    files: dict[str, Path] = {}
    unread: list[Unread] = []
    for path in paths:
        if path.is_dir():
            below = listed(path)
            files |= {str(path / name): file for name, file in below.files.items()}
            unread += [Unread(str(path / name), why) for name, why in below.unread]
        else:
            files[str(path)] = path
    return Listed(files, unread)


def read_picture(path: Path, *, max_pixels: int) -> Image.Image:
    """The picture in a file, upright, RGB.

    Raises OSError whose message says why there is none; the limit is checked before a pixel is
    decoded.
    """
    if not path.exists():
        raise OSError("there is no such file")
    if not path.is_file():  # a pipe, on which reading would never end
        raise OSError("it is no file")
    size = path.stat().st_size
    if size > max_pixels * BYTES_A_PIXEL:
        raise OSError(f"its {size:,} bytes are more than {max_pixels:,} pixels take")
    try:
        with opened(path.read_bytes()) as header:
            width, height = header.size
    except Exception as error:  # Pillow raises whatever a broken file provokes
        raise OSError("no picture could be read from it (is it an image, and whole?)") from error
    if width * height > max_pixels:
        raise OSError(f"its {width:,} × {height:,} pixels are more than {max_pixels:,}")
    try:
        return open_image(Place(path))
    except OSError as error:
        raise OSError(f"it can't be decoded ({error})") from error
