"""WebDataset and img2dataset: tar files in which the members of a sample share a name.

Images of a plain tar stay where they are and are read through their offset. Those of a compressed
one come with their row. Nothing is extracted to disk.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipeline.data.sources.rows import BadRow, Embedded, Part, Row, is_image

SUFFIXES = (".tar", ".tar.gz", ".tgz")
ENDS = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError)
"""What reading a broken archive raises."""

MAX_TEXT = 1_000_000
MAX_EMBEDDED = 200_000_000


def read_shards(files: Sequence[Path], *, folder: Path) -> Iterator[Row | BadRow]:
    """The samples of each tar, in order: image, caption, and the fields of its JSON."""
    for file in files:
        name = file.relative_to(folder).as_posix()
        plain = file.suffix == ".tar"
        try:
            with tarfile.open(file, "r:" if plain else "r|gz") as tar:
                yield from _samples(tar, file=file, name=name, plain=plain)
                end = tar.offset
            if plain and not _has_end(file, end):
                yield BadRow(f"{name} ends early: no end mark at byte {end}")
        except (
            tarfile.TarError,
            OSError,
            EOFError,
            zlib.error,
            ValueError,
            OverflowError,
        ) as error:
            yield BadRow(f"{name} ends early: {type(error).__name__}: {error}"[:200])


def _samples(tar: tarfile.TarFile, *, file: Path, name: str, plain: bool) -> Iterator[Row | BadRow]:
    key: str | None = None
    sample: dict[str, Any] = {}
    size = file.stat().st_size
    broken: Exception | None = None
    for member in _members(tar):
        if isinstance(member, Exception):
            broken = member
            continue
        if member.isdir():
            continue
        wrong = _wrong(member, size if plain else None)
        if wrong is not None:
            yield BadRow(f"{name}: {member.name[:100]!r}: {wrong}")
            continue
        stem, suffix = _key(member.name)
        if stem != key:
            if sample:
                yield _row(sample, f"{name}!{key}")
            key, sample = stem, {}
        found = _value(tar, member, suffix, name=name, plain=plain)
        if isinstance(found, BadRow):
            yield found
        elif found is not None:
            sample |= found
        tar.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps every header of a shard
    if sample:
        yield _row(sample, f"{name}!{key}")
    if broken is not None:
        raise broken


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo | Exception]:
    """The members, and what ends them early, so that the sample before it is not lost."""
    try:
        yield from tar
    except ENDS as error:
        yield error


def _has_end(file: Path, offset: int) -> bool:
    """Whether the block of zeros that ends an archive stands at `offset`; tarfile does not ask."""
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _row(sample: dict[str, Any], key: str) -> Row:
    return {"image": None, "__key__": key, **sample}


def _wrong(member: tarfile.TarInfo, size: int | None) -> str | None:
    if not member.isfile() or member.issparse():
        return "not a plain file"
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the archive"
    if size is not None and member.offset_data + member.size > size:
        return f"{member.size} bytes, more than the file holds"
    return None


def _key(name: str) -> tuple[str, str]:
    """Folder and stem up to the first dot, and the suffix after it."""
    folder, _, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), suffix.lower()


def _value(  # noqa: PLR0911 - one line a kind of member
    tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, *, name: str, plain: bool
) -> dict[str, Any] | BadRow | None:
    """What a member adds to its sample; None for what is of no use here."""
    if is_image(f"x.{suffix}"):
        label = f"{name}!{member.name}"
        if plain:
            return {"image": Part(label, name, member.offset_data, member.size)}
        if member.size > MAX_EMBEDDED:
            return BadRow(f"{label}: {member.size} bytes, more than {MAX_EMBEDDED}")
        return {"image": Embedded(label, _read(tar, member))}
    if suffix not in ("txt", "json", "cls"):
        return None
    if member.size > MAX_TEXT:
        return BadRow(f"{name}!{member.name}: a text of {member.size} bytes")
    text = _read(tar, member).decode("utf-8-sig", errors="surrogateescape")
    if suffix == "txt":
        return {"caption": [line for line in text.splitlines() if line.strip()]}
    if suffix == "cls":
        return {"label": text.strip()}
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRow(f"{name}!{member.name}: not JSON: {error}"[:200])
    if not isinstance(fields, dict):
        return BadRow(f"{name}!{member.name}: not a JSON object")
    return {k: v for k, v in fields.items() if k not in ("image", "__key__")}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream: IO[bytes] | None = tar.extractfile(member)
    return b"" if stream is None else stream.read()
