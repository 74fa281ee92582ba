"""Mutated sources of every format: rows, malformed rows, or one clear error, and nothing else."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from test_formats import FORMATS, params

from pipeline.data.sources.detect import open_source
from pipeline.errors import ConfigError, DataError

EACH = 190
"""Mutants a format: 2,090 in all."""


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 20)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def inserted(content: bytes, draw: random.Random) -> bytes:
    odd = (
        b"\x00" * 40, b"\xff\xfe\xfa", b'"' * 9, b"[" * 5000, b"x" * 1_100_000, b"\n,,,\n",
        b"../../../etc/passwd", b"/etc/passwd", "ü".encode("latin-1"), b"1e999999999",
    )  # fmt: skip
    place = draw.randrange(len(content))
    return content[:place] + draw.choice(odd) + content[place:]


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [flipped, truncated, inserted]


@pytest.mark.parametrize("name", FORMATS)
def test_mutants_end_in_rows_or_in_one_clear_error(tmp_path: Path, name: str) -> None:
    kind, write = FORMATS[name]
    write(tmp_path)
    files = sorted(f for f in tmp_path.rglob("*") if f.is_file() and f.suffix != ".jpg")
    whole = {file: file.read_bytes() for file in files}
    draw = random.Random(name)
    ends = {"rows": 0, "error": 0}
    for _ in range(EACH):
        file = draw.choice(files)
        file.write_bytes(draw.choice(MUTATIONS)(whole[file], draw))
        try:
            batches = list(open_source(params(tmp_path, format=kind)).batches())
            numbers = [n for b in batches for n in (*b.rows["pair"], *b.malformed["pair"])]
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
            assert all(b.malformed["value"].notna().all() for b in batches)
            ends["rows"] += 1
        except (DataError, ConfigError):
            ends["error"] += 1
        file.write_bytes(whole[file])
    assert ends["rows"] + ends["error"] == EACH
    assert ends["rows"] > 0 or name == "parquet"  # whose footer sees every change
