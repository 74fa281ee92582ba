"""`cliptune diff` of two runs of a real pipeline: each kind of difference, and none."""

import json
import re
from dataclasses import dataclass

import pytest
from toy_tree import Run, Toy, by_role, make_toy

pytest_plugins = ["toy_fixtures"]


@dataclass
class Two:
    """Two runs that differ in everything, and a third that is the second again."""

    toy: Toy
    runs: list[Run]

    def diff(self, one: int, other: int, *options: str) -> str:
        ids = [self.runs[number].info.run_id for number in (one, other)]
        done = self.toy.run("cliptune", "diff", *ids, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    toy = make_toy(tmp_path_factory.mktemp("two") / "toy")
    toy.dvc("repro")
    toy.set("lr: 0.25", "lr: 0.125")
    (toy.path / "data/raw/rows.txt").write_text("row 1\nrow 2\nrow 3\nrow 4\n")
    toy.commit()
    (toy.path / "note.txt").write_text("not committed")
    toy.dvc("repro")
    toy.dvc("repro", "-f")
    return Two(toy, by_role(toy.runs(), "pipeline"))


def test_each_kind_of_difference_is_told_causes_first(two: Two) -> None:
    said = two.diff(0, 1)
    lines = [line.strip() for line in said.splitlines()]
    one, other = (run.data.tags["mlflow.source.git.commit"][:10] for run in two.runs[:2])
    assert lines[0].count(two.runs[0].info.run_id[:8]) == 1
    assert f"commit {one} → {other}" in lines
    assert re.search(r"params.yaml +\| +2 \+-", said)
    assert "dvc.lock" not in said
    assert "uncommitted: note.txt in the second alone" in lines
    assert "train.lr: 0.25 → 0.125" in lines
    assert "source data/raw has other content" in lines
    assert "the first output that differs is out/prepared.txt, of the stage prepare" in lines
    assert "train/rows: 4 → 5" in lines
    sections = [line for line in lines if line in {"code", "params", "data", "metrics"}]
    assert sections == ["code", "params", "data", "metrics"]
    assert lines[-1] == "the same: environment"


def test_the_same_as_json(two: Two) -> None:
    facts = json.loads(two.diff(0, 1, "--json"))
    assert facts["params"] == {"train.lr": ["0.25", "0.125"]}
    assert facts["code"]["uncommitted"] == ["note.txt"]
    assert facts["data"]["first_output"] == ["prepare", "out/prepared.txt"]
    assert facts["metrics"]["changed"]["train/rows"] == [4.0, 5.0]


def test_a_run_does_not_differ_from_its_repetition(two: Two) -> None:
    said = two.diff(1, 2).splitlines()
    assert said[-1] == "the same: code, params, data, environment, metrics"
    assert len(said) == 3


def test_a_run_that_is_not_there_is_one_line(two: Two) -> None:
    done = two.toy.run("cliptune", "diff", two.runs[0].info.run_id, "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no run 'nobody'")
