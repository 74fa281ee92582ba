"""The whole look, in real work trees."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.clip.model import Clip
from pipeline.registry import bundle

ROOT = Path(__file__).parents[2]
PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")

DOCTOR = """
import json, sys
from pipeline.doctor.examine import examine
from pipeline.doctor.show import as_dict
if __name__ == "__main__":
    found = examine()
    heavy = sorted({"torch", "open_clip", "mlflow", "great_expectations"} & set(sys.modules))
    told = as_dict(found.findings, found.facts)
    print(json.dumps({**told, "stops": found.stops, "heavy": heavy}))
"""


@pytest.fixture
def work_tree(pictures: Path, tiny: Clip, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a source of 16 pictures in `mine` and a model of the sample's kind."""
    tree = pictures / "tree"
    mine = tree / "mine"
    mine.mkdir(parents=True)
    for name in ("images", "captions.csv"):
        (pictures / name).rename(mine / name)
    bundle.save(tree / "models/base", tiny, record={})
    (tree / "general").mkdir()
    (tree / ".dvc").mkdir()
    (tree / "dvc.yaml").write_text("stages: {}\n")
    (tree / "doctor.py").write_text(DOCTOR)
    set_params(tree)
    for command in (["init"], ["add", "dvc.yaml"], ["commit", "-m", "first"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *command], cwd=tree, check=True, capture_output=True)
    return tree


def set_params(tree: Path, *changes: tuple[str, str]) -> None:
    ours = [
        ("samples/scenes/out", "mine"),
        ("../samples/base_model/out", "../models/base"),
        ("samples/base_model/general", "general"),
    ]
    text = PARAMS
    for old, new in (*ours, *changes):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tree / "params.yaml").write_text(text)


def doctor(tree: Path) -> dict[str, object]:
    command = [sys.executable, "doctor.py"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "CLIPTUNE_DEVICE": "cpu"}
    environ = {key: value for key, value in environ.items() if not key.startswith("MLFLOW_")}
    environ |= {"PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(
        command, cwd=tree, env=environ, capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
    found: dict[str, object] = json.loads(told.stdout)
    return found


def files(tree: Path) -> set[tuple[str, int]]:
    found = (path for path in tree.rglob("*") if ".git/" not in str(path))
    return {(path.relative_to(tree).as_posix(), path.stat().st_mtime_ns) for path in found}


def keys(found: dict[str, object], level: str) -> list[str]:
    return [problem["key"] for problem in found["problems"] if problem["level"] == level]  # type: ignore[attr-defined]


def test_a_source_too_small_for_the_defaults(work_tree: Path) -> None:
    """16 pictures: 12.8 train, 1.6 val, 1.6 test; no batch of 128 can be filled."""
    before = files(work_tree)
    found = doctor(work_tree)
    assert files(work_tree) == before
    assert found["stops"]
    assert found["heavy"] == []
    assert keys(found, "stops") == ["finetune.batch_size"]
    assert keys(found, "hurts") == ["clean.split.val", "clean.split.test"]
    assert "evaluate.general" in keys(found, "note")
    facts = found["facts"]
    assert facts["plan"]["images"] == {"train": 13, "val": 2, "test": 2}
    assert facts["model"]["parameters"] == 4_634_649
    assert facts["data"]["rows"] == {"rows": 16, "exact": True}
    assert list(facts) == ["data", "model", "device", "plan", "environment", "no effect"]


def test_wrong_params_hide_nothing_else(work_tree: Path) -> None:
    """A wrong key, a folder that is none and a model that is none, all in one look."""
    set_params(
        work_tree,
        ("  epochs: 10", "  epoch: 10"),
        ("name: scenes-resnet", "name: ViT-B-32"),
        ("  image_root: .", "  image_root: pictures"),
    )
    found = doctor(work_tree)
    stops = keys(found, "stops")
    assert {"finetune.epoch", "finetune.epochs", "model.name", "data.image_root"} <= set(stops)


@pytest.mark.slow
def test_a_million_rows_take_seconds(work_tree: Path) -> None:
    rows = "".join(f"images/{i % 16:02}.jpg,a red square number {i}\n" for i in range(1_000_000))
    (work_tree / "mine/captions.csv").write_text("image,caption\n" + rows)
    began = time.monotonic()
    found = doctor(work_tree)
    took = time.monotonic() - began
    assert found["facts"]["data"]["rows"]["rows"] == pytest.approx(1_000_000, rel=0.02)
    assert took < 30, "seconds; importing OpenCLIP is most of them"
