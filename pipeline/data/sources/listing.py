"""What lies in a source, by names alone: a folder may hold a million files."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.data.images import inside
from pipeline.errors import DataError

DEPTH = 2
"""Folders below the source that are looked into: some have `default/train/0000.parquet`."""


def listed(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Files with one of these suffixes in the folder and `DEPTH` below it, sorted.

    Hidden ones are left out, and so are links to folders. No file is looked at but a link.
    """
    return sorted(_below(folder, "", suffixes, DEPTH))


def _below(folder: Path, prefix: str, suffixes: tuple[str, ...], depth: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth:
                    below = f"{prefix}{entry.name}/"
                    yield from _below(Path(entry.path), below, suffixes, depth - 1)
            elif entry.name.lower().endswith(suffixes) and _may_be_file(entry):
                yield prefix + entry.name


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """A file, or a link to none knows what: one that is broken is to be told, not passed over."""
    if entry.is_symlink():
        return not os.path.isdir(entry.path)
    return entry.is_file()


def misleads(folder: Path, name: str) -> bool:
    """Whether a file is a link out of the source, or to no file; it is not opened."""
    return inside(folder, name) is None or not os.path.isfile(folder / name)


def once(folder: Path, names: Sequence[str]) -> list[str]:
    """The names without links to others of them, whose rows would be read twice."""
    real = {os.path.realpath(folder / name) for name in names if not _is_link(folder, name)}
    return [
        name
        for name in names
        if not _is_link(folder, name) or os.path.realpath(folder / name) not in real
    ]


def _is_link(folder: Path, name: str) -> bool:
    return (folder / name).is_symlink()


def require_files(folder: Path, files: Sequence[Path]) -> None:
    """Raise DataError for the first of `files` that misleads."""
    for file in files:
        if inside(folder, file.relative_to(folder).as_posix()) is None:
            raise DataError(
                f"{file} is a link that leads out of {folder}: DVC would not see it change; put "
                "the file itself there"
            )
        if not os.path.isfile(file):
            raise DataError(f"{file} is a link that leads to no file: put the file itself there")
