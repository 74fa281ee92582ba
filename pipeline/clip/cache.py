"""Embeddings already computed, kept between runs by what was embedded and how.

DVC clears a stage's outputs before it runs, so what a run may build on lies outside them. A cache
is a folder for one way of computing (its key: weights, preprocessing, precision, …) that holds
segments: Arrow files of ids and vectors, only ever added. A segment appears under its name when it
is whole, and its name is the hash of its content, so neither a killed writer nor a bad disk can
leave one that is taken for sound. Deleting any of it costs time alone.

Shapes: N vectors, D width.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.artifacts import read_json, sha256_bytes, sha256_of, sha256_text

Ids = np.ndarray[Any, np.dtype[np.bytes_]]
Matrix = np.ndarray[Any, np.dtype[np.float32]]

ID = np.dtype("S64")
"""A hex SHA-256; such bytes sort as the texts do."""

KEY_FILE = "key.json"
SEGMENT = "*.arrow"


def as_ids(ids: Sequence[str]) -> Ids:
    """N hex SHA-256s as an array of 64 bytes each."""
    return np.asarray(ids, dtype=ID)


class EmbeddingCache:
    """The vectors known for one way of computing them.

    Attributes:
        corrupt: segments found damaged, and removed, when the cache was opened.
    """

    def __init__(self, root: Path, key: Mapping[str, Any]) -> None:
        """Open, or begin, the cache of `key` below `root`."""
        text = "\n".join(f"{name} {key[name]}" for name in sorted(key))
        self._folder = root / sha256_text(text)[:32]
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / KEY_FILE).is_file():
            self._write(KEY_FILE, json.dumps(dict(key), indent=2, sort_keys=True).encode())
        self.corrupt = 0
        self.refresh()

    @property
    def name(self) -> str:
        """A hash of the key."""
        return self._folder.name

    @property
    def key(self) -> dict[str, Any]:
        """How the vectors are computed."""
        known: dict[str, Any] = read_json(self._folder / KEY_FILE)
        return known

    def refresh(self) -> None:
        """Look again at what is there: other processes may have added segments."""
        segments = [self._open(file) for file in sorted(self._folder.glob(SEGMENT))]
        sound = [segment for segment in segments if segment is not None]
        self._vectors = [vectors for _, vectors in sound]
        ids = np.concatenate([ids for ids, _ in sound]) if sound else as_ids([])
        where = [np.full(len(ids), number) for number, (ids, _) in enumerate(sound)]
        rows = [np.arange(len(ids)) for ids, _ in sound]
        # Where a vector was computed twice, the first counts; both are the same bytes.
        self._ids, first = np.unique(ids, return_index=True)
        self._segment = np.concatenate(where)[first] if sound else np.empty(0, dtype=np.int64)
        self._row = np.concatenate(rows)[first] if sound else np.empty(0, dtype=np.int64)

    def lacks(self, ids: Ids) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of N ids have no vector yet: N booleans."""
        if not len(self._ids):
            return np.ones(len(ids), dtype=np.bool_)
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        unknown: np.ndarray[Any, np.dtype[np.bool_]] = self._ids[places] != ids
        return unknown

    def take(self, ids: Ids) -> Matrix:
        """The vectors of N ids, in their order: N×D. KeyError names one that is missing."""
        unknown = self.lacks(ids)
        if unknown.any():
            raise KeyError(ids[unknown][0].decode())
        places = np.searchsorted(self._ids, ids)
        segment, row = self._segment[places], self._row[places]
        found = np.empty((len(ids), self._width()), dtype=np.float32)
        for number in np.unique(segment):
            here = segment == number
            found[here] = self._vectors[number][row[here]]
        return found

    def add(self, ids: Ids, vectors: Matrix) -> None:
        """Keep the vectors of N ids, N×D, as one segment; on disk when this returns."""
        content = _packed(ids, vectors)
        self._write(f"{sha256_bytes(content)}.arrow", content)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file under a name of this process's own, then rename it: whole or absent."""
        handle, part = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._folder / name)

    def _width(self) -> int:
        return int(self._vectors[0].shape[1]) if self._vectors else 0

    def _open(self, file: Path) -> tuple[Ids, Matrix] | None:
        """Ids and mapped vectors of a segment; None, and the file is gone, where it is damaged."""
        if sha256_of(file) != file.stem:
            self.corrupt += 1
            file.unlink(missing_ok=True)
            return None
        batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
        ids, vectors = batch.column("id"), batch.column("vector")
        width = vectors.type.list_size
        return (
            np.frombuffer(ids.buffers()[1], dtype=ID, count=len(ids)),
            vectors.flatten().to_numpy(zero_copy_only=True).reshape(-1, width),
        )


def _packed(ids: Ids, vectors: Matrix) -> bytes:
    """A segment's bytes: an Arrow IPC file of one batch, columns id and vector."""
    width = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(ID.itemsize), len(ids), [None, pa.py_buffer(np.ascontiguousarray(ids))]
        ),
        pa.FixedSizeListArray.from_arrays(flat, width),
    ]
    batch = pa.record_batch(columns, names=["id", "vector"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content
