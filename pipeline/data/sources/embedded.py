"""Hugging Face data sets: Parquet with the images' bytes, and folders of save_to_disk (Arrow)."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.sources.rows import BadRow, Embedded, Row, split_names
from pipeline.errors import DataError

ROWS = 64
READ = 8_000_000
"""Rows read at a time, and bytes: a row may hold megabytes."""

BUFFER = 1_000_000
"""Bytes of a column read at once. Otherwise a row group is read whole, and may be a gigabyte."""

INFO, STATE, PARTS = "dataset_info.json", "state.json", "dataset_dict.json"


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds images' bytes: a struct with `bytes`, or binary; None where none is."""
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return str(field.name)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return str(field.name)
    return None


def is_parquet(file: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return file.suffix.lower() == ".parquet"


def schema_of(file: Path) -> pa.Schema:
    """The schema of a Parquet or Arrow file; DataError where it can't be read."""
    try:
        if is_parquet(file):
            return pq.read_schema(file)
        with pa.memory_map(str(file)) as stream:
            return pa.ipc.open_stream(stream).schema
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file} can't be read: {error}") from None


def read_embedded(files: Sequence[Path], *, folder: Path) -> Iterator[Row | BadRow]:
    """The rows of each file, images as `Embedded`, class numbers as their names."""
    names = [file.relative_to(folder).as_posix() for file in files]
    splits = split_names(names)
    named = any(splits)
    for file, name, split in zip(files, names, splits, strict=True):
        schema = schema_of(file)
        column, classes = image_column(schema), class_names(schema)
        given = {"split": split} if named and "split" not in schema.names else {}
        try:
            for number, row in enumerate(_rows(file), start=1):
                yield _row(row, column, classes, name=f"{name}!{number}") | given
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            yield BadRow(f"{name} ends early: {error}"[:200])


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the classes by column, as `datasets` keeps them in a schema's metadata."""
    content = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(content)["info"]["features"]
        return {
            column: [str(name) for name in list(feature["names"])]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a save_to_disk folder, those of each part in the order they are listed."""
    folders = [folder]
    if (folder / PARTS).is_file():
        folders = [folder / name for name in _names(folder / PARTS, "splits")]
    found = []
    for part in folders:
        listed = _names(part / STATE, "_data_files")
        for entry in listed:
            name = entry.get("filename") if isinstance(entry, dict) else entry
            if not isinstance(name, str) or "/" in name or not os.path.isfile(part / name):
                raise DataError(f"{part / STATE} names {name!r}, which is no file beside it")
            found.append(part / name)
    return found


def _names(file: Path, key: str) -> list[Any]:
    try:
        names = json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file} is not what save_to_disk writes: {error}") from None
    if not isinstance(names, list) or any(isinstance(n, str) and "/" in n for n in names):
        raise DataError(f"{file}: {key} is not a list of names")
    return names


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if is_parquet(file):
        with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as table:
            for batch in table.iter_batches(batch_size=_rows_at_once(table.metadata)):
                batch.validate(full=True)
                yield from batch.to_pylist()
        return
    with pa.memory_map(str(file)) as stream, pa.ipc.open_stream(stream) as reader:
        for batch in reader:
            batch.validate(full=True)  # offsets of a broken file lead out of its memory
            rows = _fitting(batch.nbytes, batch.num_rows)
            for start in range(0, batch.num_rows, rows):
                yield from batch.slice(start, rows).to_pylist()


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Rows of the file's largest ones that come to about `READ` bytes."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return min((_fitting(g.total_byte_size, g.num_rows) for g in groups), default=ROWS)


def _fitting(size: int, rows: int) -> int:
    return max(1, min(ROWS, READ * rows // max(1, size)))


def _row(
    row: dict[str, Any], column: str | None, classes: dict[str, list[str]], *, name: str
) -> dict[str, Any]:
    if column is not None:
        row[column] = _image(row[column], name)
    for field, names in classes.items():
        number = row.get(field)
        if isinstance(number, int):
            row[field] = names[number] if 0 <= number < len(names) else None
    return row


def _image(value: Any, name: str) -> Embedded | str | None:
    if isinstance(value, dict):
        if value.get("bytes") is None:
            path = value.get("path")
            return path if isinstance(path, str) else None
        return Embedded(name, bytes(value["bytes"]))
    return None if value is None else Embedded(name, bytes(value))
