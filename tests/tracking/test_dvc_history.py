"""One work tree's history under a real DVC: what MLflow holds after each execution.

A stage costs seconds (MLflow's import): an execution is made once and looked at by many tests.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_tree import Run, Toy, by_role

pytest_plugins = ["toy_fixtures"]


@dataclass
class Execution:
    """A state of the tree and the runs that one execution added."""

    output: str
    commit: str
    added: list[Run]
    receipts: dict[str, Any]

    @property
    def pipeline(self) -> Run:
        (run,) = by_role(self.added, "pipeline")
        return run

    @property
    def stages(self) -> dict[str, Run]:
        return {run.data.tags["dvc.stage"]: run for run in by_role(self.added, "stage")}


def execute(toy: Toy, *command: str, known: int = 0) -> Execution:
    output = toy.dvc(*command)
    runs = toy.runs()
    receipts = {p.stem: toy.receipt(p.stem) for p in (toy.path / "runs").glob("*.json")}
    return Execution(output, toy.git("rev-parse", "HEAD"), runs[known:], receipts)


@pytest.fixture(scope="module")
def fresh(tree: Toy) -> Execution:
    return execute(tree, "repro")


@pytest.fixture(scope="module")
def cached(tree: Toy, fresh: Execution) -> Execution:
    return execute(tree, "repro", known=3)


@pytest.fixture(scope="module")
def dirty(tree: Toy, cached: Execution) -> Execution:
    """Another learning rate, a new file, and a secret, none of it committed."""
    tree.set("lr: 0.25", "lr: 0.125")
    (tree.path / "note.txt").write_bytes(b"caf\xe9\r\nno newline")
    (tree.path / ".env").write_text("TOKEN=abc")
    return execute(tree, "repro", known=3)


@pytest.fixture(scope="module")
def experiment(tree: Toy, dirty: Execution) -> Execution:
    """An experiment in a temporary work tree, which DVC deletes."""
    (tree.path / ".env").unlink()
    tree.commit()
    return execute(tree, "exp", "run", "--temp", "-n", "slow-lr", "-S", "train.lr=0.5", known=5)


def test_a_first_repro_is_one_run_with_a_child_for_each_stage(fresh: Execution) -> None:
    assert len(fresh.added) == 3
    assert set(fresh.stages) == {"prepare", "train"}
    assert {run.info.status for run in fresh.added} == {"FINISHED"}
    parents = {run.data.tags["mlflow.parentRunId"] for run in fresh.stages.values()}
    assert parents == {fresh.pipeline.info.run_id}
    assert fresh.pipeline.info.run_name.startswith(f"repro {fresh.commit[:7]} ")


def test_a_stage_has_its_params_and_metrics(tree: Toy, fresh: Execution) -> None:
    train = fresh.stages["train"]
    assert train.data.params == {
        "seed": "7",
        "train.lr": "0.25",
        "train.epochs": "3",
        "train.sleep": "0.0",
    }
    assert train.data.metrics["train/rows"] == 4
    assert train.data.metrics["train/target/finetuned/top1"] == 0.75
    assert train.data.metrics["train/seconds"] > 0
    assert not {"train/best", "train/reason"} & set(train.data.metrics)
    history = tree.client().get_metric_history(train.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
    assert tree.download(train.info.run_id, "model.txt").read_text().startswith("row 1\n")


def test_the_pipeline_run_has_all_params_metrics_and_sources(tree: Toy, fresh: Execution) -> None:
    data = fresh.pipeline.data
    assert data.params["prepare.words"] == '["a", "b"]'
    assert data.params["train.lr"] == "0.25"
    assert (data.metrics["prepare/rows"], data.metrics["train/rows"]) == (3, 4)
    assert data.tags["pipeline.complete"] == "true"
    assert data.tags["mlflow.source.git.commit"] == fresh.commit
    assert data.tags["mlflow.source.git.dirty"] == "false"
    assert len(data.tags["dvc.lock.sha256"]) == len(data.tags["env.sha256"]) == 64
    sources = tree.download(fresh.pipeline.info.run_id, "source")
    names = {path.name for path in sources.iterdir()}
    assert names == {"params.yaml", "dvc.yaml", "dvc.lock", "environment.json"}
    assert (sources / "params.yaml").read_text().startswith("seed: 7\n")


def test_a_stage_links_to_the_run_that_made_its_input(fresh: Execution) -> None:
    upstream = fresh.stages["train"].data.tags["dvc.upstream.prepare.run_id"]
    assert upstream == fresh.stages["prepare"].info.run_id
    assert "dvc.upstream.train.run_id" not in fresh.stages["prepare"].data.tags


def test_a_run_is_found_by_the_hash_of_its_data(tree: Toy, fresh: Execution) -> None:
    lock = (tree.path / "dvc.lock").read_text()
    for stage, path in {"prepare": "data/raw", "train": "out/prepared.txt"}.items():
        # data/raw is no stage's output: DVC hashed it after the stage, `record` added it.
        (run,) = tree.client().search_runs(
            ["1"],
            f"dataset.name = '{path}' and tags.`dvc.stage` = '{stage}'",
            order_by=["start_time"],
        )[:1]
        (found,) = run.inputs.dataset_inputs
        assert run.info.run_id == fresh.stages[stage].info.run_id
        assert f"md5: {found.dataset.digest}\n" in lock
        assert len(found.dataset.digest) == (36 if stage == "prepare" else 32)
        same = tree.client().search_runs(["1"], f"dataset.digest = '{found.dataset.digest}'")
        assert run.info.run_id in {each.info.run_id for each in same}


def test_a_receipt_names_the_run_and_its_place(tree: Toy, fresh: Execution) -> None:
    receipt = fresh.receipts["train"]
    assert receipt["run_id"] == fresh.stages["train"].info.run_id
    assert receipt["parent_run_id"] == fresh.pipeline.info.run_id
    assert receipt["tracking_uri"] == f"sqlite:///{tree.path}/mlflow.db"
    assert (receipt["spooled"], receipt["journal"]) == (False, None)
    assert receipt["params"]["train.lr"] == 0.25
    assert receipt["metrics"]["train/rows"] == 4
    assert receipt["commit"] == fresh.commit
    assert receipt["started"] < receipt["ended"]
    assert fresh.receipts["pipeline"]["run_id"] == fresh.pipeline.info.run_id
    assert fresh.receipts["pipeline"]["stages"]["train"] == receipt["run_id"]


def test_the_metrics_file_holds_nothing_that_varies_by_run(tree: Toy, fresh: Execution) -> None:
    text = (tree.path / "metrics/prepare.json").read_text()
    assert text == '{\n  "best": "b",\n  "reason": null,\n  "rows": 3\n}\n'


def test_logging_is_quiet(fresh: Execution) -> None:
    ours = ("Running stage", "> ", "Generating lock", "Updating lock", "MLflow: run ", "\tgit add")
    rest = [line for line in fresh.output.splitlines() if line and not line.startswith(ours)]
    hints = ("To track the changes", "To enable auto staging", "\tdvc config", "Use `dvc push`")
    assert [line for line in rest if not line.startswith(hints)] == []


def test_nothing_to_do_logs_nothing(fresh: Execution, cached: Execution) -> None:
    assert cached.added == []
    assert cached.receipts == fresh.receipts


def test_a_skipped_stage_keeps_its_run(fresh: Execution, dirty: Execution) -> None:
    assert set(dirty.stages) == {"train"}
    tags = dirty.pipeline.data.tags
    assert tags["dvc.stage.prepare"] == "reused"
    assert tags["dvc.stage.prepare.run_id"] == fresh.stages["prepare"].info.run_id
    assert tags["dvc.stage.train"] == "executed"
    assert dirty.pipeline.data.metrics["prepare/rows"] == 3
    assert dirty.pipeline.data.metrics["train/target/finetuned/top1"] == 0.875
    reused = fresh.stages["prepare"].info.run_id
    assert (
        f"| prepare | reused | [{reused[:8]}](#/experiments/1/runs/{reused}) |"
        in tags["mlflow.note.content"]
    )
    assert tags["pipeline.key"] != fresh.pipeline.data.tags["pipeline.key"]
    assert tags["dvc.lock.sha256"] != fresh.pipeline.data.tags["dvc.lock.sha256"]


def test_the_patch_rebuilds_a_dirty_tree(tree: Toy, dirty: Execution, tmp_path: Path) -> None:
    tags = dirty.pipeline.data.tags
    assert tags["mlflow.source.git.dirty"] == "true"
    assert tags["source.left_out"] == "not in the patch: .env"
    assert "+dirty" in dirty.pipeline.info.run_name
    patch = tree.download(dirty.pipeline.info.run_id, "source/uncommitted.patch")
    copy = tmp_path / "copy"
    tree.git("clone", "-q", str(tree.path), str(copy))
    there = Toy(copy)
    there.git("checkout", "-q", dirty.commit)
    there.git("apply", "--whitespace=nowarn", str(patch))
    assert "lr: 0.125" in (copy / "params.yaml").read_text()
    assert (copy / "note.txt").read_bytes() == b"caf\xe9\r\nno newline"
    assert b"TOKEN" not in patch.read_bytes()
    assert b"dvc.lock" not in patch.read_bytes()


def test_an_experiment_is_one_run_with_its_name(tree: Toy, experiment: Execution) -> None:
    assert experiment.pipeline.info.run_name == "slow-lr"
    assert experiment.pipeline.data.tags["dvc.exp.name"] == "slow-lr"
    assert experiment.pipeline.data.tags["dvc.exp.baseline"] == experiment.commit
    assert experiment.pipeline.data.tags["dvc.stage.prepare"] == "reused"
    assert experiment.pipeline.data.params["train.lr"] == "0.5"
    assert experiment.pipeline.data.metrics["train/target/finetuned/top1"] == 0.5
    kept = tree.download(experiment.stages["train"].info.run_id, "model.txt")
    assert "lr=0.5" in kept.read_text()
    patch = tree.download(experiment.pipeline.info.run_id, "source/uncommitted.patch")
    assert "lr: 0.5" in patch.read_text()


@pytest.fixture
def killed(tree: Toy, experiment: Execution) -> tuple[Run, bool]:
    """DVC is killed while `train` runs: the run of the stage, and whether its process lives on."""
    tree.set("sleep: 0.0", "sleep: 60.0")
    known = len(tree.runs())
    dvc = tree.start("dvc", "repro")
    stage = wait_for_stage(dvc, tree, known=known)
    dvc.kill()
    dvc.communicate()
    _, alive = psutil.wait_procs([stage], timeout=20)
    return tree.runs()[-1], bool(alive)


def wait_for_stage(dvc: subprocess.Popen[str], tree: Toy, *, known: int) -> psutil.Process:
    """The process of the stage, once its run has begun."""
    until = time.time() + 60
    while time.time() < until:
        if len(tree.runs()) >= known + 2:
            time.sleep(1)
            below = psutil.Process(dvc.pid).children(recursive=True)
            return next(p for p in below if "stages/toy_stage.py" in p.cmdline())
        time.sleep(0.2)
    raise AssertionError("the stage did not begin")


def test_a_stage_stops_when_dvc_is_killed(tree: Toy, killed: tuple[Run, bool]) -> None:
    run, alive = killed
    assert not alive
    assert (run.data.tags["dvc.stage"], run.info.status) == ("train", "KILLED")
    parent = tree.client().get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.info.status, parent.data.tags["dvc.stage.train"]) == ("KILLED", "killed")
    assert not (tree.path / "runs/train.json").exists()
