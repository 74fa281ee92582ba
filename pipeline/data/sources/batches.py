"""Rows of any reader → batches of pairs: columns settled, lists of captions made pairs."""

import math
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.data.sources.rows import SPLIT_NAMES, BadRow, Embedded, Part, Reader, Row
from pipeline.data.sources.tables import list_of

MAX_ROWS = 50_000
MAX_CONTENT = 64_000_000
COLUMNS = (
    "pair", "source_row", "image", "file", "offset", "length", "content", "caption", "label",
    "group", "split",
)  # fmt: skip


class Batch(NamedTuple):
    """Some rows of a source.

    Attributes:
        rows: pair, source_row; image (its name, from the source) or None; file (from the source),
            offset and length where it is a part of the file; content (bytes) where the image came
            with its row; caption, label, group, split: text or None.
        malformed: pair, source_row, value (what is wrong) of rows that do not parse.
    """

    rows: pd.DataFrame
    malformed: pd.DataFrame


@dataclass(frozen=True)
class Source:
    """What was seen of a source, and how to read it.

    Attributes:
        format: which of the formats in params.yaml it is.
        folder: `data.source`.
        files: what holds the captions.
        columns: field → column.
        guessed: the fields whose column was guessed.
        notes: what else is worth telling.
    """

    format: str
    folder: Path
    files: list[Path]
    columns: dict[str, str]
    guessed: list[str]
    notes: list[str]
    image_root: str
    reader: Reader

    def batches(self) -> Iterator[Batch]:
        """Every row of the source once, from its beginning, some at a time."""
        part = _Part(0)
        for number, row in enumerate(self.reader(), start=1):
            if isinstance(row, BadRow):
                part.bad(number, row.value)
            else:
                self._add(part, number, row)
            if part.full:
                yield part.batch()
                part = _Part(part.pair)
        if part.pair > part.start:
            yield part.batch()

    def _add(self, part: "_Part", number: int, row: Row) -> None:
        columns = self.columns
        captions, wrong = _captions(row.get(columns.get("caption", "caption")))
        image = _image(row.get(columns.get("image", "image")), self.image_root)
        if isinstance(image, BadRow):
            part.bad(number, image.value)
            return
        rest = [_text(row.get(columns[f])) if f in columns else None for f in _REST]
        if rest[2] is not None:
            rest[2] = SPLIT_NAMES.get(rest[2].strip().lower(), rest[2])
        texts = (image[0], image[1], *captions, *rest)
        broken = next((t for t in texts if t is not None and not _is_unicode(t)), None)
        if broken is not None or wrong:
            part.bad(number, wrong or f"not UTF-8: {broken[:80] if broken else ''!r}")
            return
        for caption in captions:
            part.good(number, image, caption, rest)


_REST = ("label", "group", "split")
_Image = tuple[str | None, str | None, int | None, int | None, bytes | None]
"""Name, file, offset, length, content."""


class _Part:
    """A batch as it grows."""

    def __init__(self, start: int) -> None:
        self.start = self.pair = start
        self._rows: list[tuple[Any, ...]] = []
        self._bad: list[tuple[int, int, str]] = []
        self._content = 0

    @property
    def full(self) -> bool:
        return self.pair - self.start >= MAX_ROWS or self._content >= MAX_CONTENT

    def good(self, number: int, image: _Image, caption: str | None, rest: list[Any]) -> None:
        self.pair += 1
        self._rows.append((self.pair, number, *image, caption, *rest))
        if image[4] is not None:
            self._content += len(image[4])

    def bad(self, number: int, value: str) -> None:
        self.pair += 1
        clear = value.encode("utf-8", errors="backslashreplace").decode()
        self._bad.append((self.pair, number, clear))

    def batch(self) -> Batch:
        rows = pd.DataFrame(self._rows, columns=list(COLUMNS), dtype=object)
        whole = dict.fromkeys(("pair", "source_row"), "int64")
        rows = rows.astype(whole | dict.fromkeys(("offset", "length"), "Int64"))
        bad = pd.DataFrame(self._bad, columns=["pair", "source_row", "value"])
        return Batch(rows, bad)


def _captions(value: Any) -> tuple[list[str | None], str | None]:
    """The captions of a row, at least one or None; and what is wrong with them."""
    if isinstance(value, str):
        value = list_of(value)
    if isinstance(value, dict) and isinstance(value.get("raw"), str):
        value = value["raw"]  # as some data sets on Hugging Face nest them
    if not isinstance(value, list | tuple):
        return [_text(value)], None
    if any(isinstance(v, dict | list) for v in value):
        return [], "its captions are no texts"
    texts: list[str | None] = [text for text in map(_text, value) if text is not None]
    return texts or [None], None


def _image(value: Any, root: str) -> _Image | BadRow:
    if isinstance(value, Part):
        return value.name, value.file, value.offset, value.length, None
    if isinstance(value, Embedded):
        return value.name, None, None, None, value.content
    if isinstance(value, dict | list | bytes):
        return BadRow(f"its image is no path: {str(value)[:80]}")
    path = _text(value)
    if path is None:
        return None, None, None, None, None
    path = path.strip()
    file = path if root == "." or path.startswith("/") else posixpath.join(root, path)
    return file, file, None, None, None


def _text(value: Any) -> str | None:
    """A cell as text; empty and missing ones are None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = value if isinstance(value, str) else str(value)
    return None if not text or text.isspace() else text


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
