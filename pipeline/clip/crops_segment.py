"""A segment of the cache of crops: one Arrow file of ids, checksums and pixels, whole or absent.

Ids and checksums lie in columns of their own, so that to know what a segment holds reads no pixel.

Shapes: N crops of a segment, H×W a crop.
"""

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

Crop = np.ndarray[Any, np.dtype[np.uint8]]

ID = np.dtype("S64")
SUFFIX = ".arrow"
PART = ".part"

TORN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
"""What `mapped` raises for a file that is no whole segment."""


class Segment(NamedTuple):
    """What a mapped segment holds: ids N, checksums N, pixels N×H×W×3."""

    ids: np.ndarray[Any, np.dtype[np.bytes_]]
    checksums: np.ndarray[Any, np.dtype[np.uint32]]
    pixels: Crop


def checksum(image_id: str, crop: Crop) -> int:
    """Of a crop under its id."""
    return zlib.crc32(np.ascontiguousarray(crop).reshape(-1).data, zlib.crc32(image_id.encode()))


def put(folder: Path, crops: Mapping[str, Crop]) -> Path:
    """Write crops of one shape as a segment with a name of its own; return its path."""
    ids = np.array(list(crops), dtype=ID)
    checksums = np.array([checksum(*item) for item in crops.items()], dtype=np.uint32)
    pixels = np.stack(list(crops.values()))
    columns = [
        _fixed(ids, ID.itemsize),
        pa.array(checksums, type=pa.uint32()),
        _fixed(pixels, pixels[0].nbytes),
    ]
    batch = pa.record_batch(columns, names=["id", "checksum", "crop"])
    batch = batch.replace_schema_metadata({"shape": json.dumps(pixels[0].shape)})

    def write(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)

    return put_file(folder, write)


def put_file(folder: Path, write: Callable[[BinaryIO], None], name: str | None = None) -> Path:
    """Write a file under a name that no other process has, then rename it: whole or absent."""
    handle, path = tempfile.mkstemp(dir=folder, prefix=".", suffix=PART)
    part = Path(path)
    final = folder / (name or f"{part.stem.lstrip('.')}{SUFFIX}")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return final


def mapped(file: Path) -> Segment:
    """What a segment holds, without a look at its pixels; one of TORN where it is torn."""
    batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
    batch.validate()
    shape = json.loads(batch.schema.metadata[b"shape"])
    ids, checksums, crops = (batch.column(name) for name in ("id", "checksum", "crop"))
    if ids.type.byte_width != ID.itemsize:
        raise ValueError(f"{file} has ids of {ids.type.byte_width} bytes, not {ID.itemsize}")
    count = len(ids)
    return Segment(
        np.frombuffer(ids.buffers()[1], dtype=ID, count=count),
        np.frombuffer(checksums.buffers()[1], dtype=np.uint32, count=count),
        np.frombuffer(crops.buffers()[1], dtype=np.uint8).reshape(count, *shape),
    )


def _fixed(values: np.ndarray[Any, Any], width: int) -> pa.FixedSizeBinaryArray:
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, buffer])
