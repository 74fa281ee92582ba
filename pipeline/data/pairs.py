"""The schema of a pair, and of a row that was rejected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Signatures = np.ndarray[Any, np.dtype[np.uint8]]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

PAIR = pa.schema(
    [
        pa.field("pair", pa.int64(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("packed", pa.bool_(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("group", pa.string()),
        pa.field("split", pa.string()),
        pa.field("image_group", pa.string()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)
"""`pair` counts captions as they are read, from 1, and is unique; `source_row` counts the rows of
the source from 1, a header not counted: a row with a list of captions makes several pairs.
`image_id` is the SHA-256 of the image's bytes and `image` its name, for people. Its bytes are the
file `file`, or where `offset` is given `length` bytes of it from there; `file` is a path from
`data.source`, or where `packed` holds from `paths.PACKED`. `image_group` is the least `image_id`
among images that are near-duplicates of each other; `validate` leaves it null and `clean` fills
it."""

IMAGE = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("brightness", pa.float32(), nullable=False),
        pa.field("signature", pa.binary(), nullable=False),
    ]
)
"""A row for each distinct image that was accepted. `brightness` is the mean grey level, 0…255;
`signature` is what near-duplicates are found by (pipeline/data/signatures.py)."""

REJECTED = pa.schema(
    [
        pa.field("pair", pa.int64(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string()),
    ]
)
"""`value` is what offended: the path, the caption, the size."""

IMAGES_FILE = "images.parquet"
LEAK = pa.schema(
    [
        pa.field("pair", pa.int64(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("other", pa.int64(), nullable=False),
        pa.field("other_row", pa.int64(), nullable=False),
        pa.field("other_image", pa.string(), nullable=False),
        pa.field("other_id", pa.string(), nullable=False),
        pa.field("other_split", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("similarity", pa.float32()),
    ]
)
"""A pair that was set aside, and the `other` pair, of another split, that keeps its place.

Each comes with its row in the source."""

NEAR_IMAGE = pa.schema(
    [
        pa.field("a", pa.string(), nullable=False),
        pa.field("b", pa.string(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
    ]
)
"""Two images, by id, that are nearly the same; `group` is the least id of all in their chain."""

NEAR_CAPTION = pa.schema(
    [
        pa.field("a", pa.int64(), nullable=False),
        pa.field("b", pa.int64(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("group", pa.int64(), nullable=False),
    ]
)
"""Two captions, each by the first `pair` that has it, nearly the same; `group` likewise."""

LEAKS_FILE = "leaks.parquet"
NEAR_IMAGES_FILE = "near_images.parquet"
NEAR_CAPTIONS_FILE = "near_captions.parquet"
EXAMPLES_FILE = "examples.json"
LABELS_FILE = "labels.json"
PAIRS_FILE = "pairs.parquet"
REJECTED_FILE = "rejected.parquet"


class TableWriter:
    """Writes a Parquet file part by part; use it as a context manager."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Begin the file at `path`."""
        self._path, self._schema = path, schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Finish the file."""
        self.close()

    def write(self, frame: pd.DataFrame) -> None:
        """Write the columns of the schema; ValueError for a null where none may be."""
        if len(frame):
            self._writer.write_table(_as_table(frame, self._schema, self._path))

    def close(self) -> None:
        """Finish the file; a second time does nothing."""
        self._writer.close()


def write_table(frame: pd.DataFrame, schema: pa.Schema, path: Path) -> None:
    """Write the columns of `schema` from `frame`; ValueError for a null where none may be."""
    pq.write_table(_as_table(frame, schema, path), path, compression="zstd")


def _as_table(frame: pd.DataFrame, schema: pa.Schema, path: Path) -> pa.Table:
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"{path}: column {field.name} holds nulls")
    return table.replace_schema_metadata(None)


def read_pairs(folder: Path) -> pd.DataFrame:
    """The pairs that a stage accepted, in the order in which it wrote them."""
    pairs: pd.DataFrame = pq.read_table(folder / PAIRS_FILE, schema=PAIR).to_pandas()
    return pairs


def read_signatures(folder: Path) -> tuple[list[str], Signatures]:
    """Ids of the N distinct images in a folder of `validate`, and their signatures, N×S uint8."""
    table = pq.read_table(folder / IMAGES_FILE, columns=["image_id", "signature"])
    ids: list[str] = table["image_id"].to_pylist()
    content = b"".join(memoryview(value.as_buffer()) for value in table["signature"])
    return ids, np.frombuffer(content, dtype=np.uint8).reshape(len(ids), -1)


def read_rejected(folder: Path) -> pd.DataFrame:
    """The rows that a stage rejected, by source row."""
    rows: pd.DataFrame = pq.read_table(folder / REJECTED_FILE, schema=REJECTED).to_pandas()
    return rows


def write_stage(folder: Path, accepted: pd.DataFrame, rejected: pd.DataFrame) -> None:
    """Write the two tables of a stage's folder, rejected rows in source order."""
    write_table(accepted, PAIR, folder / PAIRS_FILE)
    in_order = rejected.sort_values(["pair", "reason"], kind="stable")
    write_table(in_order, REJECTED, folder / REJECTED_FILE)


def reason_counts(reasons: pd.Series) -> dict[str, int]:
    """How many rows each reason rejected, by name; a null is no reason."""
    return {str(name): int(count) for name, count in reasons.value_counts().sort_index().items()}


def tally(found: Mapping[str, Any], folder: Path) -> str:
    """A line for a person: rows accepted, rows rejected by reason, and where those are listed."""
    line = f"{found['accepted']:,} of {found['read']:,} rows accepted"
    if not found["rejected"]:
        return line
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in found["rejected"].items())
    return f"{line}; rejected: {reasons} (row by row in {folder / REJECTED_FILE})"


def caption_key(caption: str) -> str:
    """What two captions share that a reader would call the same: case, space and end dot aside."""
    return " ".join(caption.casefold().split()).rstrip(" .")
