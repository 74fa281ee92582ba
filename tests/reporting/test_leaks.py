"""The page of pictures that leak, from the table that clean leaves."""

import shutil

import pandas as pd
import pytest
from PIL import Image

from pipeline import cli
from pipeline.data.pairs import LEAK, LEAKS_FILE, PAIR, PAIRS_FILE, write_table
from pipeline.errors import CliptuneError
from pipeline.reporting.leaks import find_table
from tests.drawing import ROOT
from tests.reporting.test_quality import leak, pair

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def work_tree(tmp_path, monkeypatch):
    """Valid pairs, and params that name their source."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder in ("samples/scenes/out", "data/valid"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("one", "two"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / "samples/scenes/out" / f"{name}.png")
    pairs = pd.DataFrame([pair(1, "one", "train"), pair(2, "two", "test")])
    write_table(pairs, PAIR, tmp_path / "data/valid" / PAIRS_FILE)
    return tmp_path


def write_leaks(folder, *rows):
    folder.mkdir(parents=True)
    write_table(pd.DataFrame(rows), LEAK, folder / LEAKS_FILE)


def test_what_stopped_clean_is_shown_side_by_side(work_tree, capsys):
    named = leak(1, "one", 2, "two") | {"image": HOSTILE}
    write_leaks(work_tree / ".cliptune/last_failed/clean", named, leak(3, "one", 2, "two"))
    cli.main(["leaks"])
    page = (work_tree / ".cliptune/leaks.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert '<span class="kind">row 2</span>' in page
    assert "<code>.cliptune/last_failed/clean/leaks.parquet</code>" in page
    assert "<script>" not in page
    assert capsys.readouterr().out == (
        "1 pictures stand in two parts of the split "
        "(.cliptune/last_failed/clean/leaks.parquet): .cliptune/leaks.html\n"
    )


def test_what_clean_left_comes_before_what_stopped_it_once(work_tree, capsys):
    write_leaks(work_tree / ".cliptune/last_failed/clean", leak(1, "one", 2, "two"))
    rows = [leak(i, f"{i}", 2, "two") for i in range(3)]
    write_leaks(work_tree / "data/clean", *rows)
    cli.main(["leaks", "--top", "2"])
    assert "3 pictures stand in two parts of the split (data/clean" in capsys.readouterr().out
    page = (work_tree / ".cliptune/leaks.html").read_text()
    assert ", 2 of them here;" in page
    assert page.count("near image in two splits") == 2


def test_before_clean_there_is_nothing_to_show(tmp_path):
    with pytest.raises(CliptuneError, match=r"leaks\.parquet is missing: run `dvc repro clean`"):
        find_table(tmp_path, tmp_path / "failed")
