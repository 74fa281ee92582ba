"""Sources with something done to them, and what a case of them may cost."""

import gzip
import io
import os
import random
import re
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

Mutation = Callable[[bytes, random.Random], bytes]

DIGITS = b"9" * 6000
DEEP = (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900)


@contextmanager
def bounded(*, seconds: float, megabytes: int) -> Iterator[None]:
    """Fail where the block takes longer, or at any time more memory than at its beginning."""

    def late(*_: object) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before, begun = _memory(), time.monotonic()
    # Not the alarm's signal, which is pytest-timeout's.
    kept = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, kept)
    assert time.monotonic() - begun < seconds * 4  # of a wait that takes no processor's time
    assert _most_memory() - before < megabytes * 1_000_000


def _memory() -> int:
    """Bytes in memory now, from which `_most_memory` counts."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    return int(psutil.Process().memory_info().rss)


def _most_memory() -> int:
    """The most bytes that were in memory since `_memory`; where no system tells, those now."""
    status = Path("/proc/self/status")
    if not status.exists():
        return int(psutil.Process().memory_info().rss)
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found is not None
    return int(found[1]) * 1024


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 20)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def inserted(content: bytes, draw: random.Random) -> bytes:
    odd = (
        b"\x00" * 40, b"\xff\xfe\xfa", b'"' * 9, b"x" * 1_100_000, b"\n,,,\n", b'"', DIGITS, *DEEP,
        b"../../../etc/passwd", b"/etc/passwd", "ü".encode("latin-1"), b"1e999999999",
    )  # fmt: skip
    place = draw.randrange(len(content))
    return content[:place] + draw.choice(odd) + content[place:]


def quoted(content: bytes, draw: random.Random) -> bytes:
    """A quote that opens a field, or a few, and perhaps one that closes another."""
    for _ in range(draw.randint(1, 3)):
        places = [m.end() for m in re.finditer(rb"[,\t\n]", content)]
        place = draw.choice(places or [0])
        content = content[:place] + b'"' + content[place:]
    return content


def valued(content: bytes, draw: random.Random) -> bytes:
    """Another value in JSON's place of a text."""
    values = (
        DIGITS, b"-" + DIGITS, b"1e9999", b"18446744073709551616", b"NaN", b"null", b"[]", b"{}",
        b'"\\ud800"', b'"\\u0000"', b'""', *DEEP,
    )  # fmt: skip
    places = [*re.finditer(rb'"[^"\n]*"|\b\d+\b', content)]
    if not places:
        return content + b"["
    place = draw.choice(places)
    return content[: place.start()] + draw.choice(values) + content[place.end() :]


def header(kind: bytes, name: str, size: int, *, leads: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, max(size, 0), leads
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        block[124:136] = size.to_bytes(12, "big", signed=True)
        block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
    return bytes(block)


def with_member(content: bytes, draw: random.Random) -> bytes:
    """A hostile member between two others of a tar."""
    long = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
    extended = (*long, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
    kinds = (*extended, tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CHRTYPE, tarfile.DIRTYPE)
    links = (tarfile.SYMTYPE, tarfile.LNKTYPE)
    names = ("../../evil.jpg", "/etc/evil.txt", "a/../../b.jpg", "a.jpg", "a.seg.png", "a.heic")
    one = draw.choice(
        (
            header(draw.choice(kinds), "x.jpg", draw.choice((-512, -1024, 40_000, 600_000_000))),
            header(draw.choice(links), "c.jpg", 0, leads=draw.choice(("/etc/passwd", "../x", "a"))),
            header(draw.choice(extended), "x", 512) + _record(draw),
            header(tarfile.REGTYPE, draw.choice(names), 3) + b"abc".ljust(512, b"\0"),
            header(tarfile.REGTYPE, "a.json", 8192) + draw.choice((DIGITS, b"[")).ljust(8192, b"["),
            header(draw.choice(long), "x", 0) * 2000,
        )
    )
    starts = [0]
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        starts += [member.offset for member in tar]
    place = draw.choice(starts)
    return content[:place] + one + content[place:]


def _record(draw: random.Random) -> bytes:
    fields = (
        "size=-512",
        "size=99999999999999",
        "path=../../evil.jpg",
        "GNU.sparse.major=1",
        "x=y",
    )
    text = f" {draw.choice(fields)}\n"
    return f"{len(text) + 3:03}{text}".encode().ljust(512, b"\0")


def zipped(mutation: Mutation) -> Mutation:
    """The same inside gzip."""
    return lambda content, draw: gzip.compress(mutation(gzip.decompress(content), draw), 1)


ANY: tuple[Mutation, ...] = (flipped, truncated, inserted)
TABLES: tuple[Mutation, ...] = (*ANY, quoted)
OF: dict[str, tuple[Mutation, ...]] = {
    "csv": TABLES, "csv_of_lists": (*TABLES, valued), "utf16": TABLES, "jsonl": (*ANY, valued),
    "parquet": ANY, "coco": (*ANY, valued), "sidecar": ANY, "shards": (*ANY, with_member, valued),
    "compressed": (*ANY, zipped(with_member), zipped(flipped)), "parquet_images": ANY,
    "save_to_disk": (*ANY, valued),
}  # fmt: skip
"""What is done to the bytes of a file of each format."""


def linked(file: Path, outside: Path, draw: random.Random) -> None:
    """A link in a file's place: out of the source, to a file in it, to itself, to nothing."""
    kept = file.with_name(f".{file.name}")
    file.rename(kept)
    target = draw.choice((outside, kept, outside.parent, Path("/dev/zero"), file, Path("nowhere")))
    file.symlink_to(target)


def grown(folder: Path, draw: random.Random) -> None:
    """Something odd in a folder, or in one below it."""
    below = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    place = draw.choice(below)
    suffixes = (".jpg", ".JPG", ".heic", ".AVIF", ".txt", ".db", "", ".jpg.txt", ".csv.bak")
    name = draw.choice(
        ("new", "\udcff", "line\nbreak", ".hidden", "x" * 200, "a b\t", "-", "train")
    )
    path = place / (name + draw.choice(suffixes))
    match draw.randrange(6):
        case 0:
            path.mkdir(exist_ok=True)
        case 1:
            (place / "deep").joinpath(*"abcdefgh" * 5).mkdir(parents=True, exist_ok=True)
        case 2:
            path.symlink_to(draw.choice((folder, place, folder.parent, Path("/dev/zero"), path)))
        case 3:
            os.mkfifo(path)
        case 4:
            path.write_bytes(draw.randbytes(draw.choice((0, 9, 2_000_000))))
        case _:
            draw.choice([p for p in folder.rglob("*.jpg") if p.is_file()]).rename(path)
