"""What two runs' data and metrics differ in, by numbers that can be counted by hand."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipeline.history import diff_metrics
from pipeline.history.diff_data import compare_pairs, data_section
from pipeline.history.diff_metrics import metrics_section
from pipeline.lineage_dvc import DvcStage, Graph
from pipeline.tracking_records import Record

COLUMNS = ["image_id", "image", "caption", "label", "split"]
ONE = [
    ("a", "a.jpg", "a red star", "red", "train"),
    ("a", "a.jpg", "a star", "red", "train"),
    ("b", "b.jpg", "a blue star", "blue", "train"),
    ("c", "c.jpg", "a green star", "green", "val"),
    ("d", "d.jpg", "a star of gold", "gold", "test"),
]
OTHER = [
    ("a", "renamed.jpg", "a star", "red", "train"),
    ("a", "renamed.jpg", "a red star", "red", "train"),  # in another order, by another name
    ("b", "b.jpg", "a dark blue star", "blue", "test"),
    ("c", "c.jpg", "a green star", "emerald", "val"),
    ("e", "e.jpg", "a new star", "new", "train"),
    ("f", "f.jpg", "another new star", "new", "train"),
]


def pairs(rows: list[tuple[str, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def a_record(root: Path, metrics: dict[str, float] | None = None) -> Record:
    return Record("r" * 32, "x", "r" * 32, None, {}, {}, metrics or {}, root, b"", {})


def test_pictures_are_compared_by_content() -> None:
    lines, counts = compare_pairs(pairs(ONE), pairs(OTHER))
    assert counts == {
        "pairs": [5, 6],
        "pictures": [4, 5],
        "added": 2,
        "removed": 1,
        "other_captions": 1,
        "other_label": 1,
        "moved": {"train → test": 1},
    }
    assert lines == [
        "pairs 5 → 6, pictures 4 → 5",
        "2 pictures added, such as e.jpg, f.jpg",
        "1 pictures removed, such as d.jpg",
        "1 pictures with other captions, such as b.jpg",
        "1 pictures with another label, such as c.jpg",
        "1 pictures moved from train to test",
    ]
    assert compare_pairs(pairs(ONE), pairs(ONE))[0] == ["pairs 5 → 5, pictures 4 → 4"]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository of git and DVC, to whose cache `keep` adds."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    dvc(tmp_path, "init", "-q")
    return tmp_path


def dvc(root: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def keep(root: Path, path: str, files: dict[str, pd.DataFrame]) -> Graph:
    """What a run whose stage made `files` in the folder `path` has in its lock and in the cache."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in files.items():
        frame.to_parquet(folder / name)
    dvc(root, "add", "-q", path)
    content: dict[str, Any] = YAML(typ="safe").load(root / f"{path}.dvc")
    digests = {path: content["outs"][0]["md5"]}
    return Graph({"clean": DvcStage("clean", (), (path,), {}, digests)}, {})


def test_clean_pairs_are_read_from_the_cache(repo: Path) -> None:
    one = keep(repo, "data/clean", {"pairs.parquet": pairs(ONE)})
    other = keep(repo, "data/clean", {"pairs.parquet": pairs(OTHER)})
    lines, facts = data_section(repo, (a_record(repo), a_record(repo)), (one, other))
    assert facts["pairs"]["added"] == 2
    assert facts["first_output"] == ["clean", "data/clean"]
    assert lines[0] == "the first output that differs is data/clean, of the stage clean"
    assert lines[1] == "pairs 5 → 6, pictures 4 → 5"
    assert data_section(repo, (a_record(repo), a_record(repo)), (one, one)) == ([], {})
    for file in (repo / ".dvc/cache").rglob("*.dir"):
        file.unlink()
    lines, _ = data_section(repo, (a_record(repo), a_record(repo)), (one, other))
    assert lines[1:] == ["data/clean of one of them is in no cache and no remote"]


def predictions(ids: str, labels: str, ranks: list[int]) -> pd.DataFrame:
    """Of a picture `a` with the label A and so on, what a model says."""
    return pd.DataFrame(
        {
            "image_id": list(ids),
            "label": list(ids.upper()),
            "final_label": list(labels),
            "final_rank_i2t": ranks,
        }
    )


def test_models_are_compared_on_the_pictures_both_were_tested_on(repo: Path) -> None:
    """Of a b c d both have b c d: the first is right on b, the second on b, c and d."""
    one = keep(
        repo, "data/predictions", {"target.parquet": predictions("abcd", "ABXX", [1, 1, 2, 1])}
    )
    other = keep(
        repo, "data/predictions", {"target.parquet": predictions("bcde", "BCDX", [1, 1, 3, 1])}
    )
    before = {"evaluate/target/final/top1": 0.5, "embed/seconds": 1.0, "train/rows": 4.0}
    after = {
        "evaluate/target/final/top1": 0.75,
        "evaluate/target/gain/top1/value": 0.25,
        "evaluate/target/gain/top1/low": -0.1,
        "evaluate/target/gain/top1/high": 0.5,
        "embed/seconds": 2.0,
        "train/rows": 5.0,
    }
    records = a_record(repo, before), a_record(repo, after)
    lines, facts = metrics_section(repo, records, (one, other))
    top1, recall = facts["paired"]
    assert (top1["metric"], top1["pictures"]) == ("top1", 3)
    assert top1["value"] == pytest.approx(2 / 3)
    assert recall["value"] == pytest.approx(0)  # c gained, d lost
    assert lines[2].split("Zero-shot accuracy")[1].split() == (
        ["50.0", "%", "→", "75.0", "%", "(+25.0", "[−10.0,", "50.0]", "over", "its", "base)"]
    )
    assert lines[0].startswith("target: Zero-shot accuracy: +66.7 [")
    assert lines[1].endswith("on the 3 test pictures of both, no difference shown")
    assert lines[3] == "train/rows: 4 → 5"
    assert len(lines) == 4
    assert diff_metrics.RESAMPLES >= 1000
