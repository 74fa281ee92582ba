"""Pictures inside Parquet and Arrow are read some at a time."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources.embedded import read_embedded

SIZE = 300_000
ROWS = 300

SCHEMA = pa.schema(
    [pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))],
)


def table() -> pa.Table:
    images = [{"bytes": bytes([i % 256]) * SIZE, "path": f"{i}.jpg"} for i in range(ROWS)]
    return pa.Table.from_pydict({"image": images}, SCHEMA)


def parquet(file: Path) -> Path:
    # One row group, in which pages hold eight rows.
    pq.write_table(table(), file.with_suffix(".parquet"), compression="none", use_dictionary=False,
                   write_batch_size=8, data_page_size=SIZE)  # fmt: skip
    return file.with_suffix(".parquet")


def arrow(file: Path) -> Path:
    path = file.with_suffix(".arrow")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_table(table())
    return path


@pytest.mark.parametrize("write", [parquet, arrow])
def test_a_group_of_rows_is_not_held_whole(write: Callable[[Path], Path], tmp_path: Path) -> None:
    file = write(tmp_path / "rows")
    before = pa.total_allocated_bytes()
    held = []
    for row in read_embedded([file], folder=tmp_path):
        assert isinstance(row, dict)
        assert len(row["image"].content) == SIZE
        held.append(pa.total_allocated_bytes() - before)
    assert len(held) == ROWS
    assert max(held) < SIZE * ROWS / 4
