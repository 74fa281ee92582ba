"""The schema of a pair, and of a row that was rejected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

PAIR = pa.schema(
    [
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("group", pa.string()),
        pa.field("split", pa.string()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)
"""`source_row` counts the rows of the captions file from 1, its header not counted; `image_id` is
the SHA-256 of the image's bytes; `image` is a path from `data.source`."""

REJECTED = pa.schema(
    [
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string()),
    ]
)
"""`value` is what offended: the path, the caption, the size."""

PAIRS_FILE = "pairs.parquet"
REJECTED_FILE = "rejected.parquet"


def write_table(frame: pd.DataFrame, schema: pa.Schema, path: Path) -> None:
    """Write the columns of `schema` from `frame`; ValueError for a null where none may be."""
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    table = table.replace_schema_metadata(None)
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"{path}: column {field.name} holds nulls")
    pq.write_table(table, path, compression="zstd")


def read_pairs(folder: Path) -> pd.DataFrame:
    """The pairs that a stage accepted, in the order in which it wrote them."""
    pairs: pd.DataFrame = pq.read_table(folder / PAIRS_FILE, schema=PAIR).to_pandas()
    return pairs


def read_rejected(folder: Path) -> pd.DataFrame:
    """The rows that a stage rejected, by source row."""
    rows: pd.DataFrame = pq.read_table(folder / REJECTED_FILE, schema=REJECTED).to_pandas()
    return rows


def write_stage(folder: Path, accepted: pd.DataFrame, rejected: pd.DataFrame) -> None:
    """Write the two tables of a stage's folder, rejected rows in source order."""
    write_table(accepted, PAIR, folder / PAIRS_FILE)
    in_order = rejected.sort_values(["source_row", "reason"], kind="stable")
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
