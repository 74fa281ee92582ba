"""A source much larger than memory: what validate and clean hold while they read it, by format.

Makes pictures of a megabyte each, as files with a table, as tar shards, and as Parquet with the
images' bytes, and as a folder of save_to_disk, and runs both stages on each with the defaults in
params.yaml. The figure is the size of the source over the most memory that the stage's processes
held together and the system can't take back: pages of files, the source's and libraries', are left
out. `make bench NAME=streaming`; CLIPTUNE_BENCH_GIGABYTES sets the size of a source, by default 16
(the disk needs three times that).
"""

import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.captions import measured

GIGABYTES = float(os.environ.get("CLIPTUNE_BENCH_GIGABYTES", "16"))
GOAL = 10.0
SEGMENT = 65_000
SEGMENTS = 16
PIXELS = (160, 120)
GROUP = 100
"""Pictures in a row group, as Hugging Face writes data sets of pictures."""
SHARD = 1_000

SCHEMA = pa.schema(
    [
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("caption", pa.string()),
    ]
)

Picture = tuple[str, bytes, str]
"""Name, content, caption."""


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a source is below ten times the memory."""
    figures = {}
    print(f"{'':>13}{'source':>10}{'seconds':>12}{'peak':>10}{'times':>8}")
    for name, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source"
            source.mkdir()
            write(source)
            size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file()) / 1e9
            stages = [measured(stage, Path(folder), anonymous) for stage in ("validate", "clean")]
        peak = max(stage["gigabytes"] for stage in stages)
        seconds = sum(stage["seconds"] for stage in stages)
        figures[name] = {"gigabytes": size, "seconds": seconds, "peak": peak, "times": size / peak}
        print(f"{name:>13}{size:>7.1f} GB{seconds:>10.1f} s{peak:>7.2f} GB{size / peak:>8.1f}")
    print(json.dumps(figures))
    sys.exit(0 if all(figure["times"] >= GOAL for figure in figures.values()) else 1)


def anonymous(process: psutil.Process) -> int:
    """Bytes of a process that are in memory and come from no file; its share of shared ones."""
    rolled = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {name: 1024 * int(size.split()[0]) for name, size in (x.split(":") for x in rolled)}
    return fields["Pss_Anon"] + fields["Pss_Shmem"]


def pictures() -> Iterator[Picture]:
    """Pictures of a megabyte, most of it comments, none like another byte for byte."""
    small = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (*PIXELS[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(small, "JPEG")
    content = small.getvalue()
    for i in range(int(GIGABYTES * 1e9 / (SEGMENT * SEGMENTS + len(content)))):
        first = f"picture {i:08}".encode()
        comments = b"".join(
            b"\xff\xfe" + SEGMENT.to_bytes(2, "big") + first.ljust(SEGMENT - 2, b"\0")
            for _ in range(SEGMENTS)
        )
        yield f"{i:08}.jpg", content[:2] + comments + content[2:], f"picture number {i} of many"


def as_table(source: Path) -> None:
    """captions.csv, and a file a picture."""
    with (source / "captions.csv").open("w") as table:
        table.write("image,caption\n")
        for name, content, caption in pictures():
            (source / name).write_bytes(content)
            table.write(f"{name},{caption}\n")


def as_shards(source: Path) -> None:
    """WebDataset tar files."""
    for number, group in enumerate(grouped(SHARD)):
        with tarfile.open(source / f"{number:05}.tar", "w") as shard:
            for name, content, caption in group:
                text = name.replace(".jpg", ".txt")
                for member, data in ((name, content), (text, caption.encode())):
                    entry = tarfile.TarInfo(member)
                    entry.size = len(data)
                    shard.addfile(entry, io.BytesIO(data))


def as_parquet(source: Path) -> None:
    """Parquet with a struct of bytes and path, as Hugging Face writes it."""
    with pq.ParquetWriter(source / "train.parquet", SCHEMA, compression="none") as writer:
        for group in grouped(GROUP):
            writer.write_table(arrow(group))


def as_saved(source: Path) -> None:
    """The Arrow stream and the two notes of a `save_to_disk` folder."""
    file = "data-00000-of-00001.arrow"
    with pa.OSFile(str(source / file), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        for group in grouped(GROUP):
            writer.write_table(arrow(group))
    (source / "state.json").write_text(json.dumps({"_data_files": [{"filename": file}]}))
    (source / "dataset_info.json").write_text("{}")


def grouped(size: int) -> Iterator[list[Picture]]:
    """The pictures, so many at a time."""
    waiting = pictures()
    while group := list(islice(waiting, size)):
        yield group


def arrow(group: list[Picture]) -> pa.Table:
    """Some pictures as a table."""
    rows = [{"image": {"bytes": c, "path": name}, "caption": text} for name, c, text in group]
    return pa.Table.from_pylist(rows, SCHEMA)


WRITERS: dict[str, Callable[[Path], None]] = {
    "table": as_table,
    "shards": as_shards,
    "parquet": as_parquet,
    "save_to_disk": as_saved,
}


if __name__ == "__main__":
    main()
