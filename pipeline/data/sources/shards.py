"""WebDataset and img2dataset: tar files in which the members of a sample share a name.

The name ends at its first dot; what follows is the member's suffix. The image is the member whose
suffix is that of an image and nothing else: `a.jpg`, not the mask `a.seg.png`. Captions are the
lines of `.txt`, the label is in `.cls`, and fields of `.json` count where these two lack. Of two
members of one kind the first in the archive is taken, and the other is a bad row. Hidden members
and other suffixes are left alone; a sample that has no image but one of these is a bad row.

Images of a plain tar stay where they are and are read through their offset. Those of a compressed
one come with their row. Nothing is extracted to disk.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline.data.sources import tars
from pipeline.data.sources.rows import BadRow, Embedded, Part, Row, is_image, is_unread, unread

SUFFIXES = (".tar", ".tar.gz", ".tgz")
UNLIKE = "unlike"
"""Like an image, but none that is read."""

KINDS = {"txt": "text", "json": "JSON", "cls": "label"}
MAX_TEXT = 1_000_000
MAX_EMBEDDED = 200_000_000


class _Shard(NamedTuple):
    """An open archive, its name, and its size where it is a plain one."""

    tar: tarfile.TarFile
    name: str
    size: int | None


class _Sample:
    """What the members that share a name hold."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.taken: dict[str, str] = {}  # kind → member
        self.fields: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.unlike: BadRow | None = None  # an image that is not taken

    def row(self, shard: str) -> Row | BadRow | None:
        """Its row; None where no member was of use."""
        if "image" not in self.taken and self.unlike is not None:
            return self.unlike
        if not self.fields and not self.own:
            return None
        return {"image": None, "__key__": f"{shard}!{self.key}", **self.fields, **self.own}


def read_shards(files: Sequence[Path], *, folder: Path) -> Iterator[Row | BadRow]:
    """The samples of each tar, in order: image, caption, and the fields of its JSON."""
    for file in files:
        name = file.relative_to(folder).as_posix()
        plain = file.suffix.lower() == ".tar"
        try:
            with tars.opened(file, plain=plain) as tar:
                yield from _samples(_Shard(tar, name, file.stat().st_size if plain else None))
                end = tar.offset
            if plain and not tars.has_end(file, end):
                yield BadRow(f"{name} ends early: no end mark at byte {end}")
        except tars.ENDS as error:
            yield BadRow(f"{name} ends early: {type(error).__name__}: {error}"[:200])


def _samples(shard: _Shard) -> Iterator[Row | BadRow]:
    sample = _Sample("")
    broken: Exception | None = None
    for member in tars.members(shard.tar):
        if isinstance(member, Exception):
            broken = member
            continue
        if member.isdir():
            continue
        wrong = tars.wrong(member, size=shard.size)
        if wrong is not None:
            yield BadRow(f"{shard.name}: {member.name[:100]!r}: {wrong}")
            continue
        key, suffix = _key(member.name)
        if key != sample.key:
            yield from _told(sample.row(shard.name))
            sample = _Sample(key)
        yield from _told(_add(sample, shard, member, suffix))
    yield from _told(sample.row(shard.name))
    if broken is not None:
        raise broken


def _told(row: Row | BadRow | None) -> Iterator[Row | BadRow]:
    if row is not None:
        yield row


def _key(name: str) -> tuple[str, str]:
    """Folder and stem up to the first dot, and the suffix after it."""
    folder, _, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), suffix.lower()


def _kind(name: str, suffix: str) -> str | None:
    """What a member may be to its sample; None for what is of no use here."""
    if name.rpartition("/")[2].startswith("."):
        return None
    if is_unread(f"x.{suffix}") or (is_image(f"x.{suffix}") and "." in suffix):
        return UNLIKE
    return "image" if is_image(f"x.{suffix}") else KINDS.get(suffix)


def _add(sample: _Sample, shard: _Shard, member: tarfile.TarInfo, suffix: str) -> BadRow | None:
    """Add a member to its sample, or tell what is wrong with it."""
    name = f"{shard.name}!{member.name}"
    kind = _kind(member.name, suffix)
    if kind is None:
        return None
    if kind == UNLIKE:
        dotted = BadRow(f"{name}: not taken as an image, as its suffix has two dots: rename it")
        sample.unlike = sample.unlike or (dotted if "." in suffix else unread(name))
        return None
    if kind in sample.taken:
        return BadRow(f"{name}: a second {kind} of its sample, after {sample.taken[kind]}")
    sample.taken[kind] = member.name
    add = _add_image if kind == "image" else _add_text
    return add(sample, shard, member, name)


def _add_image(sample: _Sample, shard: _Shard, member: tarfile.TarInfo, name: str) -> BadRow | None:
    if shard.size is not None:
        sample.own["image"] = Part(name, shard.name, member.offset_data, member.size)
        return None
    if member.size > MAX_EMBEDDED:
        return BadRow(f"{name}: {member.size} bytes, more than {MAX_EMBEDDED}")
    sample.own["image"] = Embedded(name, _read(shard.tar, member))
    return None


def _add_text(sample: _Sample, shard: _Shard, member: tarfile.TarInfo, name: str) -> BadRow | None:
    if member.size > MAX_TEXT:
        return BadRow(f"{name}: a text of {member.size} bytes, more than {MAX_TEXT}")
    text = _read(shard.tar, member).decode("utf-8-sig", errors="surrogateescape")
    kind = name.rpartition(".")[2].lower()
    if kind == "json":
        return _add_fields(sample, text, name)
    if kind == "txt":
        sample.own["caption"] = [line for line in text.splitlines() if line.strip()]
    else:
        sample.own["label"] = text.strip()
    return None


def _add_fields(sample: _Sample, text: str, name: str) -> BadRow | None:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRow(f"{name}: not JSON: {error}"[:200])
    if not isinstance(fields, dict):
        return BadRow(f"{name}: not a JSON object")
    sample.fields = {k: v for k, v in fields.items() if k not in ("image", "__key__")}
    return None


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream: IO[bytes] | None = tar.extractfile(member)
    return b"" if stream is None else stream.read()
