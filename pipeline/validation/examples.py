"""Rows that show what is meant: a few of them, each on a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLES = 3
SAID = 200
"""Characters of a value that are shown."""


def shown(value: Any) -> str:
    """A value as an example shows it: one line, not too long; empty for null."""
    if pd.isna(value):
        return ""
    text = " ".join(str(value).split())
    return text if len(text) <= SAID else text[: SAID - 1] + "…"


def example(source_row: Any, value: Any) -> dict[str, Any]:
    """An example as checks.json holds it."""
    return {"source_row": int(source_row), "value": shown(value)}


def rows_at(path: Path, positions: Sequence[int], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a Parquet file at `positions`, counted from 0, in their order."""
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        ends = np.cumsum(sizes)
        parts = [file.schema_arrow.empty_table().select(list(columns))]
        for position in positions:
            group = int(np.searchsorted(ends, position, side="right"))
            table = file.read_row_group(group, columns=list(columns))
            parts.append(table.slice(position - int(ends[group]) + sizes[group], 1))
    rows: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    return rows
