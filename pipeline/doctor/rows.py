"""How many rows a source has: exact where that is cheap, else by size."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import read_json

BLOCKS, BLOCK = 10, 100_000
"""Blocks of bytes, at equal distances, from which the length of a line is taken."""

FILES = 2_000_000
"""Files that are counted before the rest is left alone."""

LINES = {".csv", ".tsv", ".jsonl", ".ndjson", ".json"}


def count(files: list[Path], folder: Path, *, format_: str) -> tuple[float, bool] | None:
    """Rows, and whether that is exact; None where the sample alone can tell."""
    if files and all(file.suffix.lower() == ".parquet" for file in files):
        return _parquet(files)
    if format_ in {"class_folders", "sidecar"}:
        return _in_folders(folder, ".txt" if format_ == "sidecar" else None)
    if format_ == "save_to_disk":
        return _described(folder)
    if format_ == "coco":
        return sum(_captions(file) for file in files), False
    if format_ == "table" and all(file.suffix.lower() in LINES for file in files):
        return sum(_lines(file) for file in files), False
    return None


def _parquet(files: list[Path]) -> tuple[float, bool] | None:
    try:
        return sum(pq.read_metadata(file).num_rows for file in files), True
    except (pa.ArrowException, OSError):
        return None


def _described(folder: Path) -> tuple[float, bool] | None:
    """By `dataset_info.json`, which may lack the counts."""
    total = 0
    found = sorted(folder.glob("dataset_info.json")) or sorted(folder.glob("*/dataset_info.json"))
    for file in found:
        try:
            splits = read_json(file)["splits"]
            name = file.parent.name
            chosen = [splits[name]] if name in splits else list(splits.values())
            total += sum(int(split["num_examples"]) for split in chosen)
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return (total, False) if found else None


def _captions(file: Path) -> int:
    """Keys `"caption"` in a JSON file; the end of a piece may cut one in two, in 16 MB."""
    with file.open("rb") as opened:
        return sum(piece.count(b'"caption"') for piece in iter(lambda: opened.read(1 << 24), b""))


def _lines(file: Path) -> float:
    """Lines by their length in some blocks of the file."""
    size = file.stat().st_size
    lines = read = 0
    with file.open("rb") as opened:
        for i in range(BLOCKS):
            opened.seek(max(size - BLOCK, 0) * i // (BLOCKS - 1))
            block = opened.read(BLOCK)
            lines += block.count(b"\n")
            read += len(block)
    return size * lines / max(read, 1)


def _in_folders(folder: Path, suffix: str | None) -> tuple[float, bool]:
    total = 0
    for name in _names(folder):
        if not name.startswith(".") and (suffix is None or name.lower().endswith(suffix)):
            total += 1
        if total >= FILES:
            break
    return total, False


def _names(folder: Path) -> Iterator[str]:
    for _, _, files in os.walk(folder):
        yield from files
