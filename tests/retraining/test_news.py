"""What counts as new: pictures, and whether anything but them has changed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.retraining import news
from pipeline.retraining.commands import git
from pipeline.retraining.tree import IDENTITY

DVC_YAML = """\
stages:
  clean:
    cmd: cp data/mine data/clean/pairs.parquet
    deps: [data/mine, code.py]
    params: [clean]
    outs: [data/clean]
"""


def status(entry: Any, stage: str = "train") -> list[str]:
    return news._differences({stage: [entry]})


@pytest.mark.parametrize(
    ("entry", "only_data"),
    [
        ({"changed deps": {"data/mine": "modified", "data/clean": "modified"}}, True),
        ({"changed deps": {"samples/scenes/out": "modified"}}, True),
        ({"changed deps": {"hub": "deleted", "samples/base_model/out": "deleted"}}, True),
        ({"changed outs": {"models/final": "deleted"}}, True),
        ({"changed deps": {"../elsewhere": "modified"}}, True),
        ({"changed deps": {"hub/openai": "modified"}}, False),
        ({"changed deps": {"samples/base_model/out": "modified"}}, False),
        ({"changed deps": {"pipeline/validation/templates": "modified"}}, False),
        ({"changed deps": {"pipeline/training/optim.py": "modified"}}, False),
        ({"changed deps": {"samples/params.py": "modified"}}, False),
        ({"changed deps": {"params.yaml": {"finetune.lr": "modified"}}}, False),
        ("changed command", False),
    ],
)
def test_code_params_and_the_base_model_are_not_data(entry: Any, only_data: bool) -> None:
    found = [news._is_code(name, "samples/base_model/out") for name in status(entry)]
    assert any(found) != only_data


def test_the_check_of_all_params_says_nothing_of_a_stage() -> None:
    assert (
        status({"changed deps": {"params.yaml": {"retrain.least_new": "modified"}}}, "check") == []
    )


def pairs(pictures: range, *, said: str = "a picture") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"{number:064x}" for number in pictures],
            "image": [f"{number}.jpg" for number in pictures],
            "caption": [f"{said} {number}" for number in pictures],
            "label": "one",
            "split": "train",
        }
    )


def dvc(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "--quiet"], cwd=folder, check=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose commit has forty pictures, with a remote."""
    folder = tmp_path / "tree"
    (folder / "data/clean").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    dvc(folder, "init")
    dvc(folder, "remote", "add", "--default", "far", str(tmp_path / "far"))
    (folder / "dvc.yaml").write_text(DVC_YAML.replace("cp", "mkdir -p data/clean && cp"))
    (folder / "params.yaml").write_text("clean: {}\n")
    (folder / "code.py").write_text("")
    (folder / ".gitignore").write_text("/data\n")
    pairs(range(40)).to_parquet(folder / "data/mine")
    return folder


def test_pictures_are_counted_against_those_of_the_commit(tree: Path) -> None:
    dvc(tree, "repro")
    assert news.news(tree) is None  # nothing was ever committed
    git(tree, "add", "--all")
    git(tree, *IDENTITY, "commit", "--quiet", "--message", "first")
    dvc(tree, "push")
    found = news.news(tree)
    assert (found.pictures, found.new) == (40, 0)
    more = pd.concat(
        [pairs(range(5, 38)), pairs(range(38, 40), said="other"), pairs(range(40, 47))]
    )
    more.to_parquet(tree / "data/mine")
    assert news.only_data(tree, "../models/mine")
    dvc(tree, "repro")
    found = news.news(tree)
    assert (found.pictures, found.added, found.gone, found.changed) == (42, 7, 5, 2)
    assert found.new == 14
    assert (found.rejected, found.set_aside) == (None, None)
    valid = tree / "data/valid"
    valid.mkdir()
    pairs(range(2, 47))[["image_id"]].to_parquet(valid / "images.parquet")  # 3 are set aside
    pd.DataFrame({"image": ["1.jpg", None, "45.jpg"]}).to_parquet(valid / "rejected.parquet")
    counted = news.news(tree)
    assert (counted.gone, counted.rejected, counted.set_aside, counted.new) == (5, 1, 3, 14)
    (valid / "images.parquet").unlink()
    # A clone has nothing of the commit in its cache: the remote has.
    for file in (tree / ".dvc/cache/files").rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    subprocess.run(["rm", "-r", tree / ".dvc/cache/files"], check=True)
    assert news.news(tree) == found
    (tree / "code.py").write_text("# another way")
    assert not news.only_data(tree, "../models/mine")
