"""Embeddings on disk: ids in a Parquet column, vectors in a `.npy` that is mapped, not read.

Rows are ordered by id, never by completion, so the same content gives the same bytes. Plain
pyarrow and numpy read both files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.clip.embed import Matrix

DTYPES = {"fp16": np.float16, "fp32": np.float32}


@dataclass(frozen=True)
class Embeddings:
    """N sorted ids and their vectors, N×D."""

    ids: np.ndarray[Any, np.dtype[Any]]
    vectors: np.ndarray[Any, np.dtype[Any]]

    def take(self, ids: Sequence[str]) -> Matrix:
        """The vectors of M ids, in their order: M×D fp32. KeyError names an id that is missing."""
        places = np.searchsorted(self.ids, np.asarray(ids, dtype=self.ids.dtype))
        found = self.ids[np.minimum(places, len(self.ids) - 1)] == np.asarray(ids)
        if not found.all():
            raise KeyError(str(np.asarray(ids)[~found][0]))
        return np.asarray(self.vectors[places], dtype=np.float32)


def write(
    folder: Path,
    name: str,
    ids: Sequence[str],
    vectors: Matrix,
    *,
    dtype: Literal["fp16", "fp32"],
) -> None:
    """Write `name`.parquet (column id) and `name`.npy into `folder`, sorted by id."""
    order = np.argsort(np.asarray(ids))
    table = pa.table({"id": pa.array(np.asarray(ids, dtype=object)[order], pa.string())})
    pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    np.save(folder / f"{name}.npy", vectors[order].astype(DTYPES[dtype]))


def read(folder: Path, name: str) -> Embeddings:
    """Map the embeddings that `write` wrote; nothing is loaded until it is taken."""
    column = pq.read_table(folder / f"{name}.parquet")["id"]
    ids = np.asarray(column.to_pylist(), dtype=np.str_)
    return Embeddings(ids, np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
