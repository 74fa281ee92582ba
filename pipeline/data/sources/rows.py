"""What a reader yields: a row, or what is wrong with one.

A reader goes through its files and yields every row once: a `Row`, or a `BadRow` where it does not
parse. None is skipped. Columns and lists of captions are settled by batches.py for all readers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
)


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


def split_name(text: str) -> str | None:
    """The part that a file's or folder's name means: train-00000-of-00002.parquet → train."""
    for word in text.lower().replace(".", "-").replace("_", "-").split("-"):
        if word.rstrip("0123456789") in SPLIT_NAMES:
            return SPLIT_NAMES[word.rstrip("0123456789")]
    return None
