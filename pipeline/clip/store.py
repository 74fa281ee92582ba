"""Embeddings on disk: ids in a Parquet column, vectors in `.npy` shards that are mapped, not read.

Row i of the ids is row i % SHARD of shard i // SHARD. Rows are ordered by id, never by completion,
so the same content gives the same bytes. Plain pyarrow and numpy read all of it.

Shapes: N vectors, M of them asked for, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.clip.cache import ID, Ids, Matrix, as_ids

DTYPES = {"fp16": np.float16, "fp32": np.float32}

MODEL_FILE = "model.json"
"""Beside the vectors: what they are made with."""

PROFILE_FILE = "profile.json"
"""Likewise: what `cliptune accept` keeps of them."""

SHARD = 1 << 18
"""Rows of a shard: 268 MB at 512 wide and fp16. DVC copies and sends few large files best."""

BLOCK = 1 << 14
"""Rows in memory at once."""


class Embeddings:
    """N sorted ids and their vectors, N×D, on disk until they are taken.

    Attributes:
        ids: N hex SHA-256s, 64 bytes each, ascending.
    """

    def __init__(self, ids: Ids, shards: Sequence[np.ndarray[Any, Any]]) -> None:
        """Of ids and the mapped shards of their vectors."""
        self.ids, self._shards = ids, shards
        self.width = int(shards[0].shape[1]) if shards else 0

    def __len__(self) -> int:
        """N."""
        return len(self.ids)

    def places_of(self, ids: Ids) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The rows of M ids. KeyError names an id that is missing."""
        found = np.searchsorted(self.ids, ids)
        known = np.zeros(len(ids), dtype=np.bool_)
        inside = found < len(self.ids)
        known[inside] = self.ids[found[inside]] == ids[inside]
        if not known.all():
            raise KeyError(ids[~known][0].decode())
        return found

    def take(self, ids: Sequence[str]) -> Matrix:
        """The vectors of M ids, in their order: M×D fp32; only their pages are read.

        KeyError names an id that is missing.
        """
        return self.rows(self.places_of(as_ids(ids)))

    def rows(self, places: np.ndarray[Any, np.dtype[np.int64]]) -> Matrix:
        """The vectors of M rows, in their order: M×D fp32."""
        found = np.empty((len(places), self.width), dtype=np.float32)
        shard = places // SHARD
        for number in np.unique(shard):
            here = shard == number
            found[here] = self._shards[number][places[here] - number * SHARD]
        return found

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, Matrix]]:
        """All vectors in order, up to `size` at a time: first row, and up to size×D fp32."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield start, self.rows(np.arange(start, stop))

    def view(self, shard: int = 0) -> Tensor:
        """The vectors of a shard as a tensor that is the mapped file: nothing is copied.

        The tensor has the dtype on disk. It is backed by a private mapping: writing to it changes
        memory, never the file.
        """
        return torch.from_numpy(self._shards[shard])


def write(
    folder: Path,
    name: str,
    ids: Ids,
    vectors_of: Callable[[Ids], Matrix],
    *,
    dtype: Literal["fp16", "fp32"],
) -> None:
    """Write `name`.parquet (column id) and `name`-00000.npy, … into `folder`, sorted by id.

    `vectors_of` gives the vectors of some ids, in their order; it is asked for a block at a time.
    """
    ordered = np.sort(ids)
    text = pa.array([id_.decode() for id_ in ordered.tolist()], pa.string())
    pq.write_table(pa.table({"id": text}), folder / f"{name}.parquet", compression="zstd")
    for shard, first in enumerate(range(0, len(ordered), SHARD)):
        _write_shard(
            folder / f"{name}-{shard:05}.npy", ordered[first : first + SHARD], vectors_of, dtype
        )


def _write_shard(
    file: Path, ids: Ids, vectors_of: Callable[[Ids], Matrix], dtype: Literal["fp16", "fp32"]
) -> None:
    width = vectors_of(ids[:1]).shape[1]
    mapped = np.lib.format.open_memmap(
        file, mode="w+", dtype=DTYPES[dtype], shape=(len(ids), width)
    )
    for start in range(0, len(ids), BLOCK):
        mapped[start : start + BLOCK] = vectors_of(ids[start : start + BLOCK])
    mapped.flush()


def read(folder: Path, name: str) -> Embeddings:
    """Map the embeddings that `write` wrote; no vector is loaded until it is taken."""
    column = pq.read_table(folder / f"{name}.parquet")["id"].combine_chunks()
    ids = column.cast(pa.binary(ID.itemsize)) if len(column) else None
    files = sorted(folder.glob(f"{name}-[0-9]*.npy"))
    shards = [np.load(file, mmap_mode="c", allow_pickle=False) for file in files]
    return Embeddings(as_ids([]) if ids is None else _fixed(ids), shards)


def _fixed(ids: pa.FixedSizeBinaryArray) -> Ids:
    start = ids.offset * ID.itemsize
    found: Ids = np.frombuffer(ids.buffers()[1], dtype=ID, count=len(ids), offset=start)
    return found
