"""What made the pipeline run, in a line."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.retraining import changes
from pipeline.retraining.changes import Changes
from pipeline.retraining.commands import CommandError
from pipeline.retraining.week import Week

BASE = "models/mine"
LOCK: dict[str, Any] = {
    "check": {"cmd": "check", "params": {"params.yaml": {"retrain": {"least_new": 0}}}},
    "clean": {
        "cmd": "clean",
        "deps": [
            {"path": "data/mine", "md5": "1.dir"},
            {"path": "pipeline/captions/clean.py", "md5": "2"},
            {"path": "hub/../models/mine", "md5": "3.dir"},
        ],
        "params": {"params.yaml": {"clean": {"min_words": 1, "split": {"test": 0.1}}, "seed": 0}},
        "outs": [{"path": "data/clean", "md5": "4.dir"}],
    },
    "train": {"cmd": "train", "deps": [{"path": "data/clean", "md5": "4.dir"}]},
}


def line(edited: dict[str, Any], before: dict[str, Any] = LOCK) -> str:
    texts = ([json.dumps({"schema": "2.0", "stages": lock})] for lock in (before, edited))
    return changes.between(*texts, base=BASE).line


def edited(*path: Any, value: Any) -> dict[str, Any]:
    lock = copy.deepcopy(LOCK)
    inner: Any = lock
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return lock


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("clean", "params", "params.yaml", "clean", "split", "test"),
            0.2,
            "params clean.split.test",
        ),
        (("clean", "params", "params.yaml", "seed"), 1, "params seed"),
        (("clean", "deps", 0, "md5"), "9.dir", "data data/mine"),
        (("clean", "deps", 1, "md5"), "9", "code pipeline/captions/clean.py"),
        (("clean", "deps", 2, "md5"), "9.dir", "base model models/mine"),
        (("clean", "cmd"), "clean -v", "code the command of clean"),
        (("train", "deps", 0, "md5"), "9.dir", "data/clean"),
        (("check", "params", "params.yaml", "retrain", "least_new"), 9, ""),
        (("more",), {"cmd": "more"}, "never run before: more"),
    ],
)
def test_a_difference_of_the_locks_is_told_by_its_kind(path: Any, value: Any, said: str) -> None:
    assert line(edited(*path, value=value)) == said


def test_what_stages_made_is_left_out_where_its_cause_is_known() -> None:
    both = edited("clean", "deps", 0, "md5", value="9.dir")
    both["train"]["deps"][0]["md5"] = "9.dir"
    both["clean"]["params"]["params.yaml"]["clean"]["min_words"] = 2
    assert line(both) == "params clean.min_words; data data/mine"
    assert line(LOCK) == ""
    assert line(LOCK, {}) == "never run before: clean, train"


def test_the_line_is_short() -> None:
    assert Changes(code={f"pipeline/{letter}.py" for letter in "abcdef"}).line == (
        "code pipeline/a.py, pipeline/b.py, pipeline/c.py, pipeline/d.py and 2 more"
    )


def test_of_a_stage_that_failed_dvc_says_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        "check": [{"changed deps": {"params.yaml": {"retrain": "modified"}}}],
        "clean": [
            {"changed deps": {"data/mine": "modified", "hub/../models/mine": "deleted",
                              "params.yaml": {"clean": "modified"}}},
            "changed command",
        ],
        "train": [{"changed deps": {"data/clean": "modified"}}],
    }  # fmt: skip
    (tmp_path / "dvc.yaml").write_text("")
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": LOCK}))
    monkeypatch.setattr(changes, "status", lambda _: told)
    week = Week(dry=False)
    with pytest.raises(CommandError), changes.noted(tmp_path, week, pretrained="../models/mine"):
        raise CommandError("the pipeline failed", ["no"])
    assert week.changed == "params clean; code the command of clean; data data/mine"
