"""Tar archives of unknown origin: their members one by one, whatever their headers claim."""

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ENDS = (
    tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading a broken archive raises; headers that only announce the next one recurse."""

MAX_HEADER = 32_768
"""Bytes of a header that extends another. It holds a name and perhaps attributes; tarfile reads as
many as it says."""

_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class _Member(tarfile.TarInfo):
    """A header that is refused before more is read than it should hold.

    tarfile has no public place for this; `_proc_member` is what each header goes through.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0:
            raise tarfile.ReadError(f"a member of {self.size} bytes")
        if self.type in (*_LONG, *_PAX) and self.size > MAX_HEADER:
            raise tarfile.ReadError(
                f"an extended header of {self.size} bytes, more than {MAX_HEADER}: pack the "
                "archive anew"
            )
        if self.type == tarfile.GNUTYPE_SPARSE:  # its map goes on for as long as it says
            raise tarfile.ReadError("a sparse member: pack the archive anew, without")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        if self.type == tarfile.XGLTYPE:  # kept to the archive's end, each beside those before
            held = sum(len(key) + len(value) for key, value in tar.pax_headers.items())
            if held > MAX_HEADER:
                raise tarfile.ReadError(f"global headers of more than {MAX_HEADER} bytes")
        return member

    def _proc_gnusparse_10(self, member: tarfile.TarInfo, *_: object) -> None:
        member.sparse = []  # type: ignore[assignment]  # told as no plain file, its map unread


def opened(file: Path, *, plain: bool) -> tarfile.TarFile:
    """An archive, gzip-compressed unless it is plain; raises `ENDS` where its start is broken."""
    try:
        return tarfile.open(file, "r:" if plain else "r|gz", tarinfo=_Member)
    except AttributeError as error:  # tarfile looks up what gzip raises before it has set it
        raise tarfile.ReadError("the gzip header is broken") from error


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo | Exception]:
    """The members, and last what ends them early, so that what came before is not lost."""
    try:
        for member in tar:
            if member.size < 0 or tar.offset <= member.offset:  # it would be read again and again
                raise tarfile.ReadError(f"a member of {member.size} bytes")
            yield member
            tar.members.clear()  # type: ignore[attr-defined]  # else every header is kept
    except ENDS as error:
        yield error


def wrong(member: tarfile.TarInfo, *, size: int | None) -> str | None:
    """Why a member is not to be read; `size` is the archive's, where that is a plain one."""
    if not member.isfile() or member.issparse():
        return "not a plain file"
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the archive"
    if size is not None and member.offset_data + member.size > size:
        return f"{member.size} bytes, more than the file holds"
    return None


def has_end(file: Path, offset: int) -> bool:
    """Whether the block of zeros that ends an archive stands at `offset`; tarfile does not ask."""
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
