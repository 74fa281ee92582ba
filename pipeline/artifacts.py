"""Finished or absent: files and folders that appear under their name only when they are whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text under a temporary name, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes under a temporary name, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys; ValueError for NaN and infinity."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path, *, without: Collection[str] = ()) -> str:
    """SHA-256 of a file's bytes, or of the sorted names and hashes below a folder, as hex.

    `without` are names of files of the folder itself that don't count.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        names = {p: p.relative_to(path).as_posix() for p in files}
        lines = (f"{name}\0{sha256_of(p)}\n" for p, name in names.items() if name not in without)
        return sha256_text("".join(lines))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes, as hex."""
    return hashlib.sha256(content).hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as hex."""
    return hashlib.sha256(text.encode()).hexdigest()
