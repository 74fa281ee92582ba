"""Where the bytes of an image lie: a file, or a part of one."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Place(NamedTuple):
    """A whole file, or `length` bytes of it from `offset`."""

    path: Path
    offset: int | None = None
    length: int | None = None

    @property
    def shown(self) -> str:
        """The place for people: `a.jpg`, or `a.tar, bytes 512 to 9,034`."""
        if self.offset is None or self.length is None:
            return str(self.path)
        return f"{self.path}, bytes {self.offset:,} to {self.offset + self.length:,}"

    def read(self) -> bytes:
        """The image's bytes; OSError where the file is gone or ends early."""
        if self.offset is None or self.length is None:
            return self.path.read_bytes()
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.length)
        if len(content) != self.length:
            raise OSError(f"{self.path} ends before byte {self.offset + self.length}")
        return content


Places = dict[str, Place]
"""An image's place by its id."""


def places_of(pairs: pd.DataFrame, *, source: Path, packed: Path) -> Places:
    """The place of each distinct image in `pairs`; files start from `source`, or from `packed`."""
    first = pairs.drop_duplicates("image_id")
    columns = ("image_id", "file", "offset", "length", "packed")
    return {
        image_id: Place((packed if is_packed else source) / file, _whole(offset), _whole(length))
        for image_id, file, offset, length, is_packed in zip(
            *(first[name] for name in columns), strict=True
        )
    }


def places_below(pairs: pd.DataFrame, root: Path) -> Places:
    """The place of each distinct image in `pairs` whose `image` is a file's path from `root`."""
    first = pairs.drop_duplicates("image_id")
    return {id_: Place(root / name) for id_, name in zip(first.image_id, first.image, strict=True)}


def _whole(value: float | None) -> int | None:
    return None if pd.isna(value) else int(value)
