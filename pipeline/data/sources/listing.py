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
            elif entry.name.lower().endswith(suffixes) and entry.is_file():
                yield prefix + entry.name


def leads_out(folder: Path, name: str) -> bool:
    """Whether a file is a link, or lies below one, that leads out of the source."""
    return inside(folder, name) is None


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


def require_inside(folder: Path, files: Sequence[Path]) -> None:
    """Raise DataError for the first file that is a link out of the source."""
    for file in files:
        if leads_out(folder, file.relative_to(folder).as_posix()):
            raise DataError(
                f"{file} is a link that leads out of {folder}: DVC would not see it change; put "
                "the file itself there"
            )
