"""Captions files: CSV, TSV, JSONL, Parquet, whose rows name image files."""

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources import quotes
from pipeline.data.sources.rows import BadRow, Row, split_names
from pipeline.errors import DataError

# Python's own handler for lone bytes knows no UTF-16.
codecs.register_error("cliptune-lone", lambda error: ("\udc80", error.end))  # type: ignore[attr-defined]

MAX_FIELD = 1_000_000
MAX_LINE = 16_000_000
"""Characters of a line of JSON; a longer one is no row."""


OTHER_DELIMITERS = "\t;|"
"""What parts the fields of a .csv whose first line has no comma: a spreadsheet of many a country
writes semicolons, open_clip's own reader takes tabs, Flickr30k comes with bars."""


def delimiter_of(file: Path) -> str:
    """What parts the fields of a .csv, by its first line alone."""
    encoding, errors = _encoding(file)
    with file.open(encoding=encoding, errors=errors) as lines:
        first = lines.readline(MAX_LINE)
    if "," in first:
        return ","
    return max(OTHER_DELIMITERS, key=first.count) if set(OTHER_DELIMITERS) & set(first) else ","


def read_csv(file: Path, *, delimiter: str | None = None) -> Iterator[Row | BadRow]:
    """Rows of a CSV whose first line names the columns; UTF-8, or UTF-16 with its mark.

    Without a `delimiter` the first line tells it (`delimiter_of`).
    A line in which a quote opens that is never closed is a bad row, and the lines that the quote
    would take in are read as rows of their own (pipeline/data/sources/quotes.py).
    """
    csv.field_size_limit(MAX_FIELD)
    encoding, errors = _encoding(file)
    delimiter = delimiter or delimiter_of(file)
    with file.open(encoding=encoding, errors=errors, newline="") as lines:
        records = quotes.records(_bounded(lines), delimiter=delimiter)
        header = next(records, None)
        if isinstance(header, BadRow):
            raise DataError(f"{file}: its first line names no columns: {header.value}")
        if header is None:
            return
        header = [name.strip() for name in header]
        width = len(header)
        for row in records:
            if isinstance(row, BadRow):
                yield row
            elif len(row) != width:
                yield BadRow(f"{len(row)} fields, the header has {width}")
            else:
                yield dict(zip(header, row, strict=True))


def read_tsv(file: Path) -> Iterator[Row | BadRow]:
    """Rows of a TSV whose first line names the columns."""
    return read_csv(file, delimiter="\t")


def read_jsonl(file: Path) -> Iterator[Row | BadRow]:
    """One JSON object a line; empty lines are none."""
    encoding, errors = _encoding(file)
    with file.open(encoding=encoding, errors=errors) as lines:
        for line in _bounded(lines):
            if not line.strip():
                continue
            if len(line) >= MAX_LINE:
                yield BadRow(f"a line of {MAX_LINE} characters or more")
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield BadRow(f"not JSON: {error}")
                continue
            yield row if isinstance(row, dict) else BadRow("not a JSON object")


def read_parquet(file: Path) -> Iterator[Row | BadRow]:
    """Rows of a Parquet file, some at a time."""
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=8192):
                batch.validate(full=True)
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file} is not a Parquet file that can be read: {error}") from None


TABLES: dict[str, Callable[[Path], Iterator[Row | BadRow]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}


def read_tables(files: Sequence[Path], *, folder: Path) -> Iterator[Row | BadRow]:
    """The rows of several captions files of one kind, one after the other.

    Files called train, val and test give the split of rows that have no such column. Raises
    DataError for a file that can't be read.
    """
    names = [file.relative_to(folder).as_posix() for file in files]
    splits = split_names(names)
    for file, name, split in zip(files, names, splits, strict=True):
        rows = _readable(file)
        if len(files) == 1:
            yield from rows
            continue
        given: Row = {"split": split} if any(splits) else {}
        for row in rows:
            yield BadRow(f"{name}: {row.value}") if isinstance(row, BadRow) else {**given, **row}


def _readable(file: Path) -> Iterator[Row | BadRow]:
    try:
        yield from TABLES[file.suffix.lower()](file)
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror}") from None


def list_of(text: str) -> Any:
    """The list that a cell spells as JSON, or the cell itself."""
    if text.startswith("[") and text.endswith("]"):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if isinstance(values, list) and all(isinstance(value, str) for value in values):
            return values
    return text


def _encoding(file: Path) -> tuple[str, str]:
    """The encoding, and what becomes of bytes that are none of it: signs that are rejected."""
    with file.open("rb") as start:
        mark = start.read(2)
    if mark in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", "cliptune-lone"
    return "utf-8-sig", "surrogateescape"


def _bounded(lines: Any) -> Iterator[str]:
    """Lines, none longer than `MAX_LINE`: what is beyond it of a line is dropped."""
    while line := lines.readline(MAX_LINE):
        yield line
        rest = line
        while len(rest) >= MAX_LINE and not rest.endswith("\n"):
            rest = lines.readline(MAX_LINE)
