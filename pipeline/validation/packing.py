"""Pictures that came inside other files → tar files that can be read at random.

Plain tars (POSIX.1-1988 ustar): a header of 512 bytes, the content from a multiple of 512, zeros up
to the next. A member is named by the SHA-256 of its content and has no time, so the same contents
in the same order make the same bytes; each content is there once.
"""

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from pipeline.artifacts import write_json
from pipeline.validation.digests import Digests

INDEX_FILE = "index.json"
LARGEST = 1_000_000_000
"""Bytes of a tar. DVC hashes and copies a few large files far faster than many small ones."""

_BLOCK = 512
_END = 2 * _BLOCK
_OFFSETS = 1 << 40


class Packed(NamedTuple):
    """Where the bytes of an image lie in a folder of tars."""

    file: str
    offset: int
    length: int


class Packer:
    """Writes tars to a folder; a context manager, after whose end there is an index."""

    def __init__(self, folder: Path, *, largest: int = LARGEST) -> None:
        """Begin in an empty `folder`; no tar grows above `largest` unless one image alone does."""
        self._folder, self._largest = folder, largest
        self._known = Digests()
        self._files: list[str] = []
        self._tar: IO[bytes] | None = None
        self._size = 0

    def __enter__(self) -> Self:
        """The packer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the last tar and write the index."""
        self._close()
        write_json(self._folder / INDEX_FILE, {"images": len(self._known), "files": self._files})

    @property
    def folder(self) -> Path:
        """Where the tars are."""
        return self._folder

    def add(self, contents: Sequence[bytes]) -> list[Packed]:
        """Where each content lies now; it can be read at once."""
        digests = [hashlib.sha256(content).digest() for content in contents]
        places = self._known.find(digests)
        for digest, content in zip(digests, contents, strict=True):
            if digest not in places:
                places[digest] = self._append(digest.hex(), content)
                self._known.add(digest, places[digest])
        if self._tar is not None:
            self._tar.flush()
        return [
            self._packed(places[digest], len(content))
            for digest, content in zip(digests, contents, strict=True)
        ]

    def _packed(self, place: int, length: int) -> Packed:
        file, offset = divmod(place, _OFFSETS)
        return Packed(self._files[file], offset, length)

    def _append(self, name: str, content: bytes) -> int:
        header = tarfile.TarInfo(name)
        header.size = len(content)
        padding = -len(content) % _BLOCK
        if self._tar is None or self._size + _BLOCK + len(content) + padding + _END > self._largest:
            self._open_next()
        tar = self._tar
        if tar is None:
            raise RuntimeError("no tar is open")
        tar.write(header.tobuf(format=tarfile.USTAR_FORMAT))
        tar.write(content)
        tar.write(bytes(padding))
        offset = self._size + _BLOCK
        self._size = offset + len(content) + padding
        return (len(self._files) - 1) * _OFFSETS + offset

    def _open_next(self) -> None:
        self._close()
        self._files.append(f"images-{len(self._files):05}.tar")
        self._tar = (self._folder / self._files[-1]).open("wb")
        self._size = 0

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.write(bytes(_END))
            self._tar.close()
            self._tar = None
