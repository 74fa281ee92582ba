"""Reading a captions file: one reader a format, one table out.

A reader takes the file and yields rows: either a mapping of column → value, or a `BadRow`. A row is
read, or it is counted as malformed; none is skipped.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.images import inside
from pipeline.errors import ConfigError, DataError
from pipeline.params import Columns, DataParams

FIELDS = ("image", "caption", "label", "group", "split")
MAX_FIELD = 1_000_000


@dataclass(frozen=True)
class BadRow:
    """A row that does not parse: what is wrong with it."""

    value: str


Row = Mapping[str, Any] | BadRow


@dataclass(frozen=True)
class Source:
    """What a captions file holds.

    Attributes:
        rows: source_row and the five fields, each a string or None; images from `root`.
        malformed: source_row and value (what is wrong) of rows that do not parse.
        root: the folder from which image paths start.
        captions_file: the file that was read.
    """

    rows: pd.DataFrame
    malformed: pd.DataFrame
    root: Path
    captions_file: Path


def read_source(data: DataParams) -> Source:
    """Read the captions file of `data.source`.

    Raises DataError when the source, the file or a column is missing, or there is no row;
    ConfigError when `data.captions` or `data.image_root` lead out of the source.
    """
    folder = Path(data.source)
    if not folder.is_dir():
        raise DataError(
            f"data.source is {data.source!r}, which is not a folder: set it to the folder that "
            "holds your captions file and images"
        )
    file = _captions_file(folder, data.captions)
    root = _image_root(folder, data.image_root)
    read = READERS[file.suffix.lower()]
    return _collect(read(file), file=file, root=root, columns=data.columns)


def read_csv(file: Path, *, delimiter: str = ",") -> Iterator[Row]:
    """Rows of a UTF-8 CSV whose first line names the columns."""
    csv.field_size_limit(MAX_FIELD)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        header = next(reader, None)
        if header is None:
            return
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(str(error))
                continue
            if not row:
                continue
            if len(row) != len(header):
                yield BadRow(f"{len(row)} fields, the header has {len(header)}")
            else:
                yield dict(zip(header, row, strict=True))


def read_tsv(file: Path) -> Iterator[Row]:
    """Rows of a UTF-8 TSV whose first line names the columns."""
    return read_csv(file, delimiter="\t")


def read_jsonl(file: Path) -> Iterator[Row]:
    """One JSON object a line, UTF-8; empty lines are none."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield BadRow(f"not JSON: {error}")
                continue
            yield row if isinstance(row, dict) else BadRow("not a JSON object")


def read_parquet(file: Path) -> Iterator[Row]:
    """Rows of a Parquet file, group by group."""
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a Parquet file that can be read: {error}") from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}


def _captions_file(folder: Path, name: str) -> Path:
    if name != "auto":
        file = inside(folder, name)
        if file is None:
            raise ConfigError(f"data.captions is {name!r}, which leads out of {folder}")
        if not file.is_file():
            raise DataError(f"data.captions is {name!r}, but {folder} holds no such file")
        if file.suffix.lower() not in READERS:
            raise DataError(f"{file.name}: a captions file ends in {', '.join(READERS)}")
        return folder / name
    found = sorted(f for f in folder.iterdir() if f.suffix.lower() in READERS and f.is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{folder} holds no captions file ({', '.join(READERS)})")
    names = ", ".join(file.name for file in found)
    raise DataError(f"{folder} holds several captions files ({names}): name one in data.captions")


def _image_root(folder: Path, name: str) -> Path:
    root = inside(folder, name)
    if root is None:
        raise ConfigError(
            f"data.image_root is {name!r}, which leads out of {folder}: DVC would not see those "
            "images change; set data.source to a folder that holds captions and images"
        )
    if not root.is_dir():
        raise DataError(f"data.image_root is {name!r}, but {folder} holds no such folder")
    return folder / name


def _collect(rows: Iterator[Row], *, file: Path, root: Path, columns: Columns) -> Source:
    wanted = {f: getattr(columns, f) for f in FIELDS if getattr(columns, f) is not None}
    good: list[tuple[int, *tuple[str | None, ...]]] = []
    bad: list[tuple[int, str]] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if isinstance(row, BadRow):
            bad.append((number, row.value))
            continue
        seen.update(row)
        values = [_text(row.get(wanted[f])) if f in wanted else None for f in FIELDS]
        broken = next((v for v in values if v is not None and not _is_unicode(v)), None)
        if broken is not None:
            bad.append((number, f"not UTF-8: {broken[:80]!r}"))
        else:
            good.append((number, *values))
    if not good and not bad:
        raise DataError(f"{file} holds no rows: there is nothing to train on")
    _require_columns(file, wanted, seen, parsed=bool(good))
    frame = pd.DataFrame(good, columns=["source_row", *FIELDS], dtype=object)
    frame["source_row"] = frame["source_row"].astype("int64")
    malformed = pd.DataFrame(bad, columns=["source_row", "value"])
    return Source(rows=frame, malformed=malformed, root=root, captions_file=file)


def _require_columns(file: Path, wanted: dict[str, str], seen: set[str], *, parsed: bool) -> None:
    missing = {field: name for field, name in wanted.items() if name not in seen}
    if not parsed or not missing:
        return
    field, name = next(iter(missing.items()))
    optional = "" if field in ("image", "caption") else ", or to null if there is none"
    raise DataError(
        f"{file} has no column {name!r} (it has: {', '.join(sorted(seen))}): set "
        f"data.columns.{field} to the column that holds the {field}{optional}"
    )


def _text(value: Any) -> str | None:
    """A cell as text; empty and missing ones are None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value)
    return text if text.strip() else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
