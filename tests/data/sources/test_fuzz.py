"""Mutated sources of every format: rows, malformed rows, or one clear error, and nothing else."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from mutants import OF, bounded, grown, linked
from test_detect import class_folder
from test_formats import FORMATS, params

from pipeline.data.sources.detect import open_source
from pipeline.errors import ConfigError, DataError

EACH, LINKS, FOLDERS = 165, 10, 120
"""Mutants of a format's bytes, of its files as links, and of class folders: 2,045 in all."""

SECONDS, MEGABYTES = 5, 60
"""That a mutant may take. None is larger than two megabytes."""


def end(folder: Path, kind: str) -> str:
    """How reading ends: in rows, each with its number, or in a clear error."""
    with bounded(seconds=SECONDS, megabytes=MEGABYTES):
        try:
            batches = list(open_source(params(folder, format=kind)).batches())
        except (DataError, ConfigError):
            return "error"
        numbers = [n for b in batches for n in (*b.rows["pair"], *b.malformed["pair"])]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        rows = [n for b in batches for n in (*b.rows["source_row"], *b.malformed["source_row"])]
        assert set(rows) == set(range(1, max(rows, default=0) + 1))
        assert all(b.malformed["value"].str.len().gt(0).all() for b in batches)
        return "rows"


@pytest.mark.parametrize("name", FORMATS)
def test_mutants_end_in_rows_or_in_one_clear_error(tmp_path: Path, name: str) -> None:
    kind, write = FORMATS[name]
    write(tmp_path)
    files = sorted(f for f in tmp_path.rglob("*") if f.is_file() and f.suffix != ".jpg")
    whole = {file: file.read_bytes() for file in files}
    draw = random.Random(name)
    ends: Counter[str] = Counter()
    for _ in range(EACH):
        file = draw.choice(files)
        file.write_bytes(draw.choice(OF[name])(whole[file], draw))
        ends[end(tmp_path, draw.choice((kind, "auto")))] += 1
        file.write_bytes(whole[file])
    assert ends.total() == EACH
    assert ends["rows"] > 0 or name == "parquet"  # whose footer sees every change


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_are_links_end_so_too(tmp_path: Path, name: str) -> None:
    kind, write = FORMATS[name]
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole")
    draw = random.Random(name)
    for _ in range(LINKS):
        folder = tmp_path / "source"
        shutil.copytree(tmp_path / "whole", folder)
        file = draw.choice(sorted(f for f in folder.rglob("*") if f.is_file()))
        shutil.copyfile(file, tmp_path / "outside")
        linked(file, tmp_path / "outside", draw)
        end(folder, draw.choice((kind, "auto")))
        shutil.rmtree(folder)


def test_class_folders_end_so_too(tmp_path: Path) -> None:
    draw = random.Random(0)
    (tmp_path / "whole").mkdir()
    class_folder(tmp_path / "whole")
    ends: Counter[str] = Counter()
    for _ in range(FOLDERS):
        folder = tmp_path / "source"
        shutil.copytree(tmp_path / "whole", folder)
        for _ in range(draw.randint(1, 3)):
            grown(folder, draw)
        ends[end(folder, draw.choice(("class_folders", "auto")))] += 1
        shutil.rmtree(folder)
    assert ends.total() == FOLDERS
    assert ends["rows"] > 0
