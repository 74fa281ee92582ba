"""What is known of images, kept between runs by content: no run decodes the same bytes again.

A SQLite file outside of DVC's outputs. It holds facts by the hash of an image's bytes, and that
hash by a file's state (size, times, inode), so that an unchanged file is not even read. It changes
how long a run takes and never what it finds: facts count only for the decoder that found them and
with their checksum right, and a cache that can't be used is left aside with a line on stderr. What
the last `KEPT` runs did not ask for is forgotten.
"""

import hashlib
import json
import os
import sqlite3
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL
from PIL import features

from pipeline.data.facts import LASTING, ImageFacts
from pipeline.data.file_state import State

KEPT = 20
REFRESHED = 5
"""An entry in use is marked so every few runs: a run that finds all unchanged writes little."""

MAX_BYTES = 20_000_000_000
"""Above this, what was not in use lately goes at once."""

FORM = 0x436C6972
"""Marks a file of ours, of this form: SQLite's `application_id`. Change it with the tables."""

_ASKED = 500
_WAIT_S = 5.0
_TABLES = """
CREATE TABLE facts (
  image_id BLOB, decoder BLOB, found BLOB, checksum INT, used INT, UNIQUE (image_id, decoder));
CREATE TABLE files (file BLOB PRIMARY KEY, state BLOB, image_id BLOB, used INT) WITHOUT ROWID;
CREATE INDEX facts_used ON facts (used);
CREATE INDEX files_used ON files (used);
"""
_FACTS = "found, checksum"

_KNOWN = (
    f"SELECT file, state, files.image_id, min(files.used, facts.used), {_FACTS} "  # noqa: S608
    "FROM files JOIN facts ON facts.image_id = files.image_id AND decoder = ?"
)

_unpack = json.JSONDecoder().raw_decode
_SIGNATURE = ImageFacts._fields.index("signature")

FAILURES = (sqlite3.Error, UnicodeDecodeError, OSError)
"""What a file raises that is locked, out of reach or damaged; where the damage is in SQLite's own
texts, the module fails at decoding them."""

Row = tuple[Any, ...]


def decoder() -> bytes:
    """A hash of what decides how bytes become facts: Pillow, its libraries, and our own code."""
    parts = [PIL.__version__]
    parts += [str(features.version_codec(name)) for name in ("jpg", "zlib", "libtiff")]
    parts += [str(features.version(name)) for name in ("libjpeg_turbo", "zlib_ng", "webp")]
    here = Path(__file__).parent
    parts += [(here / f"{name}.py").read_text() for name in ("facts", "images", "signatures")]
    return hashlib.sha256("\0".join(parts).encode()).digest()[:8]


class Reader:
    """Facts by content, read only: for a worker process. One that can't read knows nothing."""

    def __init__(self, path: Path, decoder: bytes) -> None:
        """Open the file at `path` for what `decoder` found."""
        self._decoder = decoder
        self._base: sqlite3.Connection | None = None
        try:
            self._base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error:
            return
        self._base.text_factory = _text

    def facts(self, image_id: str) -> ImageFacts | None:
        """What is known of the image, or None."""
        if self._base is None:
            return None
        asked = f"SELECT {_FACTS} FROM facts WHERE image_id = ? AND decoder = ?"  # noqa: S608
        try:
            row = self._base.execute(asked, (bytes.fromhex(image_id), self._decoder)).fetchone()
        except FAILURES:
            self._base = None
            return None
        return None if row is None else _checked(bytes.fromhex(image_id), *row)


class FactsCache:
    """The cache of one run; every method does nothing where the file can't be used."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make it; where that fails, say so."""
        self.path = path
        self.decoder = decoder()
        self._run = 0
        self._base: sqlite3.Connection | None = None
        try:
            self._open()
        except FAILURES as error:
            self._aside(error)

    def holds_facts(self) -> bool:
        """Whether there is anything to look up: that costs a tenth of decoding a small JPEG."""
        return bool(self._rows("SELECT 1 FROM facts WHERE decoder = ? LIMIT 1", (self.decoder,)))

    def known(self, states: Mapping[str, State]) -> dict[str, ImageFacts]:
        """The facts of those files that are as they were when last looked at."""
        names = {os.fsencode(file): file for file in states}
        found: dict[str, ImageFacts] = {}
        stale: list[Row] = []
        stale_files: list[Row] = []
        keys = list(names)
        for start in range(0, len(keys), _ASKED):
            part = keys[start : start + _ASKED]
            asked = f"{_KNOWN} WHERE file IN ({','.join('?' * len(part))})"
            for key, state, image_id, used, *row in self._rows(asked, (self.decoder, *part)):
                facts, file = _checked(image_id, *row), names.get(key)
                if facts is None or file is None:
                    self._failed(sqlite3.DatabaseError("damaged"))
                    return found
                if state != states[file].packed():
                    continue
                found[file] = facts
                if used < self._run - REFRESHED:
                    stale.append((self._run, image_id))
                    stale_files.append((self._run, key))
        self._write("UPDATE facts SET used = ? WHERE image_id = ?", stale)
        self._write("UPDATE files SET used = ? WHERE file = ?", stale_files)
        return found

    def add(self, found: Iterable[tuple[str | None, State, ImageFacts]]) -> None:
        """Keep what was found of images, by file too where one is named.

        What does not follow from the bytes alone is left out.
        """
        facts: list[Row] = []
        files: list[Row] = []
        for file, state, fact in found:
            if fact.problem not in LASTING or not fact.image_id:
                continue
            key, packed = bytes.fromhex(fact.image_id), _packed(fact)
            facts.append((key, self.decoder, packed, _checksum(key, packed), self._run))
            if file is not None and state.settled():
                files.append((os.fsencode(file), state.packed(), key, self._run))
        self._write("INSERT OR REPLACE INTO facts VALUES (?,?,?,?,?)", facts)
        self._write("INSERT OR REPLACE INTO files VALUES (?,?,?,?)", files)

    def close(self) -> None:
        """Forget what was not in use for long, and close the file."""
        size = "SELECT (page_count - freelist_count) * page_size FROM "
        size += "pragma_page_count, pragma_freelist_count, pragma_page_size"
        is_large = any(used > MAX_BYTES for (used,) in self._rows(size, ()))
        oldest = self._run - (REFRESHED if is_large else KEPT)
        self._write("DELETE FROM facts WHERE used < ?", [(oldest,)])
        self._write("DELETE FROM files WHERE used < ?", [(oldest,)])
        self._shut()

    def _open(self) -> None:
        """Open the file; one that is broken or of another form is made anew."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._base = self._connected()
        except FAILURES as error:
            if not _is_damage(error):
                raise
            self._discard(error)
            self._base = self._connected()

    def _connected(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level="IMMEDIATE")
        base.text_factory = _text
        try:
            base.execute("PRAGMA synchronous=OFF")  # a crash of the machine may cost the cache
            with base:
                base.execute("BEGIN IMMEDIATE")
                (form,) = base.execute("PRAGMA application_id").fetchone()
                if form != FORM:
                    if base.execute("SELECT 1 FROM sqlite_master").fetchone():
                        raise sqlite3.DatabaseError("of another form")
                    for statement in _TABLES.split(";"):
                        base.execute(statement)
                    base.execute(f"PRAGMA application_id = {FORM}")
                (run,) = base.execute("PRAGMA user_version").fetchone()
                self._run = run + 1
                base.execute(f"PRAGMA user_version = {self._run}")
        except FAILURES:
            base.close()
            raise
        return base

    def _discard(self, error: Exception) -> None:
        """Remove a file that is no cache of ours; a process that has it open keeps its own."""
        _say("image facts are gathered anew", self.path, error)
        self.path.unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)

    def _aside(self, error: Exception) -> None:
        self._shut()
        _say("image facts are not kept", self.path, error)

    def _failed(self, error: Exception) -> None:
        """Go on without the cache; a damaged file would stay damaged, and goes."""
        self._shut()
        if _is_damage(error):
            self._discard(error)
        else:
            self._aside(error)

    def _shut(self) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None

    def _rows(self, asked: str, values: Sequence[Any]) -> list[Row]:
        if self._base is None:
            return []
        try:
            return self._base.execute(asked, values).fetchall()
        except FAILURES as error:
            self._failed(error)
            return []

    def _write(self, said: str, rows: Sequence[Row]) -> None:
        if self._base is None or not rows:
            return
        try:
            with self._base:
                self._base.executemany(said, rows)
        except FAILURES as error:
            self._failed(error)


def _is_damage(error: Exception) -> bool:
    """Whether the file itself is at fault: one that is locked or read-only stays."""
    if isinstance(error, sqlite3.OperationalError):  # 1: a table is not as we made it
        return error.sqlite_errorcode == sqlite3.SQLITE_ERROR
    return not isinstance(error, OSError)


def _say(what: str, path: Path, error: Exception) -> None:
    print(f"{what}: {path}: {str(error).partition(chr(10))[0]}", file=sys.stderr)  # noqa: T201


def _text(value: bytes) -> str:
    """Text that need not be text any more; the checksum tells."""
    return value.decode(errors="replace")


def _packed(facts: ImageFacts) -> bytes:
    """All but the content's hash, as bytes: the signature follows a line of JSON."""
    named = [*facts[1:_SIGNATURE], *facts[_SIGNATURE + 1 :]]
    return json.dumps(named).encode() + b"\n" + facts.signature


def _checksum(image_id: bytes, packed: bytes) -> int:
    """Of a row's values: SQLite does not notice when a bit of its file turns."""
    return zlib.crc32(packed, zlib.crc32(image_id))


def _checked(image_id: object, packed: object, checksum: object) -> ImageFacts | None:
    """The facts of a row, unless the row is damaged."""
    if not isinstance(image_id, bytes) or not isinstance(packed, bytes):
        return None
    if checksum != _checksum(image_id, packed):
        return None
    line, _, signature = packed.partition(b"\n")
    named, _ = _unpack(line.decode())
    named.insert(_SIGNATURE - 1, signature)
    return ImageFacts(image_id.hex(), *named)
