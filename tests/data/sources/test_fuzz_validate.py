"""Mutated sources through all of validate: a row is accepted, or rejected with a reason."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mutants import OF, bounded, grown
from test_detect import class_folder
from test_formats import FORMATS

from pipeline.data.pairs import REJECTED_FILE, read_pairs, read_rejected
from pipeline.errors import DataError
from pipeline.params import Params, Threshold
from pipeline.validation.reasons import REASONS
from tests.validation.validating import run

SECONDS, MEGABYTES = 20, 200

RUNS = {
    "csv": 4, "csv_of_lists": 4, "utf16": 4, "jsonl": 2, "parquet": 3, "coco": 5, "sidecar": 4,
    "shards": 2, "compressed": 2, "parquet_images": 3, "save_to_disk": 3, "class_folders": 4,
}  # fmt: skip
MUTANTS = {"jsonl": 8, "shards": 8, "compressed": 8}
"""In a run, else 1: a format whose sources have many files has mutants beside each other and beside
a file that is whole. 82 in all."""

FRAGILE = {"utf16", "parquet", "parquet_images"}
"""Of these a few bytes may leave no row."""


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPTUNE_WORKERS", "1")


@pytest.mark.parametrize("name", RUNS)
def test_what_is_read_is_accepted_or_rejected(tmp_path: Path, name: str, defaults: Params) -> None:
    draw = random.Random(name)
    ends = []
    for number, source in enumerate(mutated(tmp_path / "source", name, draw)):
        out = tmp_path / f"out{number}"
        with bounded(seconds=SECONDS, megabytes=MEGABYTES):
            try:
                found = run(
                    source, out, defaults,
                    data={"format": FORMATS[name][0] if name in FORMATS else name},
                    table={"rejected": Threshold(warn=None, stop=None)},
                    cache=tmp_path / "images.sqlite",
                )  # fmt: skip
            except DataError:
                found = None
        check(out, found)
        ends.append(found is not None)
    assert len(ends) == RUNS[name]
    assert any(ends) or name in FRAGILE


def mutated(source: Path, name: str, draw: random.Random) -> Iterator[Path]:
    """The source as often as it is to be read, each time with something else done to it."""
    source.mkdir()
    if name not in FORMATS:
        class_folder(source)
        for number in range(RUNS[name]):
            grown_one = source.with_name(f"source{number}")
            shutil.copytree(source, grown_one)
            for _ in range(3):
                grown(grown_one, draw)
            yield grown_one
        return
    FORMATS[name][1](source)
    files = sorted(f for f in source.rglob("*") if f.is_file() and f.suffix != ".jpg")
    suffix = "".join(files[0].suffixes)
    if name in MUTANTS:
        files = [files[0].replace(files[0].with_name(f"9{suffix}"))]
    for _ in range(RUNS[name]):
        file = draw.choice(files)
        whole = file.read_bytes()
        for number in range(MUTANTS.get(name, 0)):
            mutant = draw.choice(OF[name])(whole, draw)
            file.with_name(f"{number}{suffix}").write_bytes(mutant)
        if name not in MUTANTS:
            file.write_bytes(draw.choice(OF[name])(whole, draw))
        yield source
        file.write_bytes(whole)


def check(out: Path, found: dict[str, object] | None) -> None:
    """The numbers agree with the tables, whose rows are all of those that were read."""
    if found is None:  # the rows that were rejected before it stopped
        kept = out / "failed" / REJECTED_FILE
        rejected = pq.read_table(kept).to_pandas() if kept.is_file() else None
        assert rejected is None or set(rejected["reason"]) <= set(REASONS)
        return
    pairs, rejected = read_pairs(out / "valid"), read_rejected(out / "valid")
    counts = found["rejected"]
    assert isinstance(counts, dict)
    assert found["accepted"] == len(pairs)
    assert sum(counts.values()) == len(rejected)
    assert found["read"] == len(pairs) + len(rejected)
    assert sorted([*pairs["pair"], *rejected["pair"]]) == list(
        range(1, len(pairs) + len(rejected) + 1)
    )
    assert rejected["source_row"].ge(1).all()
    assert set(rejected["reason"]) <= set(REASONS)
