"""What a reader yields: a row, or what is wrong with one.

A reader goes through its files and yields every row once: a `Row`, or a `BadRow` where it does not
parse. None is skipped. Columns and lists of captions are settled by batches.py for all readers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
)

UNREAD_SUFFIXES = frozenset(
    {
        ".apng", ".arw", ".avif", ".bpg", ".cr2", ".cr3", ".dcm", ".dds", ".dib", ".dng", ".emf",
        ".eps", ".exr", ".hdr", ".heic", ".heics", ".heif", ".hif", ".icns", ".ico", ".j2c", ".j2k",
        ".jls", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pbm", ".pcx", ".pgm",
        ".pnm", ".ppm", ".psd", ".qoi", ".raf", ".rw2", ".svg", ".tga", ".wdp", ".wmf", ".xbm",
        ".xcf", ".xpm",
    }
)  # fmt: skip
"""Images that are not read. A fixed list: the system's own differs from machine to machine."""


class Part(NamedTuple):
    """An image that is a part of a file: `length` bytes of `file` (from the source) at `offset`."""

    name: str
    file: str
    offset: int
    length: int


class Embedded(NamedTuple):
    """An image whose bytes came with its row."""

    name: str
    content: bytes


@dataclass(frozen=True)
class BadRow:
    """A row that does not parse: what is wrong with it."""

    value: str


Row = Mapping[str, Any]
"""Column → value. Under the image's column stands a path, a `Part`, an `Embedded` or None; under
the caption's a text or a list of texts."""


class Reader(Protocol):
    """Reads a source from its beginning."""

    def __call__(self) -> Iterator[Row | BadRow]:
        """Each row once."""
        ...


SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
"""Other names of the three parts."""


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def is_unread(name: str) -> bool:
    """Whether a file's name says that it is an image of a kind that is not read."""
    return Path(name).suffix.lower() in UNREAD_SUFFIXES


def unread(name: str) -> BadRow:
    """What becomes of such an image, for leaving it out would lose it in silence."""
    kind = Path(name).suffix.lower()
    return BadRow(f"{name}: {kind} images are not read: convert them to JPEG or PNG")


def split_name(path: str) -> str | None:
    """The part that a file's name means, or else the nearest folder's: train/0000.parquet → train.

    Of train-00000-of-00002.parquet and captions_train2017.json one word is enough.
    """
    for name in reversed(path.split("/")):
        for word in name.lower().replace(".", "-").replace("_", "-").split("-"):
            if word.rstrip("0123456789") in SPLIT_NAMES:
                return SPLIT_NAMES[word.rstrip("0123456789")]
    return None


def split_names(paths: Sequence[str]) -> list[str | None]:
    """The part that each of a source's files means; none where one name is shared by all."""
    splits = [split_name(path) for path in paths]
    return splits if len(set(splits)) > 1 else [None] * len(splits)
