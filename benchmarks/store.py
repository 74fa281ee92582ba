"""Which format keeps embeddings: npy, Arrow or Parquet, by what reading costs.

Writes N vectors of width 512 in fp16 as a mapped `.npy` (what the store uses), as an Arrow IPC file
(mapped too, fixed-size lists) and as Parquet (plain and zstd, row groups of 16,384), and reads each
whole, in order, and at random (4,096 rows at a time, as a batch or a lookup would). Turns of the
formats alternate; files are in the page cache, as after a first epoch.
`make bench NAME=store`; CLIPTUNE_BENCH_VECTORS sets N, by default 200,000.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COUNT = int(os.environ.get("CLIPTUNE_BENCH_VECTORS", "200000"))
WIDTH = 512
GROUP = 1 << 14
ROWS = 4096
TURNS = 7

Reader = Callable[[Path, np.ndarray | None], np.ndarray]
"""A file, and rows or None for all → vectors."""


def main() -> None:
    """Print a table, then one line of JSON; exit 1 where another format reads faster than npy."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((COUNT, WIDTH), dtype=np.float32).astype(np.float16)
    lookups = [random.integers(0, COUNT, ROWS) for _ in range(TURNS)]
    with tempfile.TemporaryDirectory() as name:
        files = written(Path(name), vectors)
        megabytes = {what: file.stat().st_size / 1e6 for what, file in files.items()}
        times: dict[str, dict[str, list[float]]] = {
            what: {"sequential": [], "random": []} for what in files
        }
        for turn, rows in enumerate(lookups):
            names = list(files)[turn % len(files) :] + list(files)[: turn % len(files)]
            for what in names:
                for how, wanted in (("sequential", None), ("random", rows)):
                    start = time.perf_counter()
                    last = used(READERS[what](files[what], wanted))
                    times[what][how].append(time.perf_counter() - start)
                    if not np.array_equal(last, used(vectors if wanted is None else vectors[rows])):
                        raise SystemExit(f"{what} read other vectors")
    middle = {
        what: {how: statistics.median(found) for how, found in ways.items()}
        for what, ways in times.items()
    }
    print(f"{COUNT:,} vectors of width {WIDTH}, fp16")
    print(f"{'':<16}{'MB':>8}{'all, ms':>12}{f'{ROWS:,} at random, ms':>26}")
    for what, ways in middle.items():
        sequential, scattered = 1000 * ways["sequential"], 1000 * ways["random"]
        print(f"{what:<16}{megabytes[what]:>8.0f}{sequential:>12.1f}{scattered:>26.1f}")
    goals = {
        how: {
            "figure": round(min(v[how] for k, v in middle.items() if k != "npy") / npy, 3),
            "goal": 0.95,
        }
        for how, npy in middle["npy"].items()
    }
    for goal in goals.values():
        goal["met"] = goal["figure"] >= goal["goal"]
    print(json.dumps({"vectors": COUNT, "seconds": middle, "best_other_of_npy": goals}))
    sys.exit(not all(goal["met"] for goal in goals.values()))


def written(folder: Path, vectors: np.ndarray) -> dict[str, Path]:
    """The vectors in each format."""
    flat = pa.array(vectors.reshape(-1), pa.float16())
    table = pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, WIDTH)})
    files = {what: folder / f"{number}" for number, what in enumerate(READERS)}
    with files["npy"].open("wb") as file:
        np.save(file, vectors)
    with pa.ipc.new_file(str(files["arrow"]), table.schema) as writer:
        writer.write_table(table)
    for what, codec in (("parquet", "none"), ("parquet zstd", "zstd")):
        pq.write_table(
            table, files[what], compression=codec, row_group_size=GROUP, use_dictionary=False
        )
    return files


def used(vectors: np.ndarray) -> np.ndarray:
    """Each block of the vectors in fp32, as a matrix product would take it; the last one."""
    block = np.empty((GROUP, WIDTH), dtype=np.float32)
    for start in range(0, len(vectors), GROUP):
        part = vectors[start : start + GROUP]
        block[: len(part)] = part
    return block[: len(part)]


def from_npy(file: Path, rows: np.ndarray | None) -> np.ndarray:
    """Mapped; only the pages of the rows are read."""
    mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    return mapped if rows is None else mapped[rows]


def from_arrow(file: Path, rows: np.ndarray | None) -> np.ndarray:
    """Mapped likewise."""
    column = pa.ipc.open_file(pa.memory_map(str(file))).read_all()["vector"]
    return unpacked(column if rows is None else column.take(pa.array(rows)))


def from_parquet(file: Path, rows: np.ndarray | None) -> np.ndarray:
    """Decoded; of rows, the groups that hold them."""
    opened = pq.ParquetFile(file)
    if rows is None:
        return unpacked(opened.read()["vector"])
    groups, inverse = np.unique(rows // GROUP, return_inverse=True)
    column = opened.read_row_groups(groups.tolist())["vector"]
    return unpacked(column.take(pa.array(inverse * GROUP + rows % GROUP)))


def unpacked(column: pa.ChunkedArray) -> np.ndarray:
    """N×WIDTH fp16."""
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(flat).reshape(-1, WIDTH) if len(flat) > 1 else flat[0].reshape(-1, WIDTH)


READERS: dict[str, Reader] = {
    "npy": from_npy,
    "arrow": from_arrow,
    "parquet": from_parquet,
    "parquet zstd": from_parquet,
}


if __name__ == "__main__":
    main()
