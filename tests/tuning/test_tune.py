"""`cliptune tune` on a toy pipeline: real DVC, MLflow on a SQLite file, Optuna."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline import params as params_of
from pipeline.artifacts import read_json
from pipeline.errors import ConfigError, DataError, TrainingError
from pipeline.params import Params
from pipeline.tuning.told import Sweep, table
from pipeline.tuning.tune import reason, tune
from tests.tracking.toy_tree import Toy
from tests.tuning.sweeping import calls, experiments, make, state

LR = "finetune.lr: {low: 1.0e-4, high: 1.0e-1, log: true}"
TOO_HIGH = "finetune.lr: {low: 2.0, high: 3.0, log: false}"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_", "CLIPTUNE_"))]:
        monkeypatch.delenv(name)
    for name, value in (
        Toy(Path()).environ({"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}).items()
    ):
        monkeypatch.setenv(name, value)


def sweep(toy: Toy, limit: int) -> Sweep:
    return tune(toy.path, params_of.load(Params, toy.path / "params.yaml"), limit=limit)


# one history, with runs of MLflow


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """It has a result, which is not committed, and a change that is not either."""
    toy = make(tmp_path_factory.mktemp("swept") / "toy", LR, runs=True)
    toy.dvc("repro", MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING="false")
    (toy.path / "note.txt").write_text("mine")
    toy.set("# What `cliptune tune` tries", "# What it tries")
    return toy


@pytest.fixture
def swept(toy: Toy) -> Sweep:
    """Three trials; the same again for each test after the first."""
    return sweep(toy, 3)


def test_a_sweep_leaves_the_work_tree_as_it_was(toy: Toy) -> None:
    before, others = state(toy), psutil.Process().children()
    assert calls(toy) == ["embed", "finetune", "evaluate"]
    sweep(toy, 3)
    assert state(toy) == before
    # The first trial is what there is; the others train, no more; the best is but evaluated.
    assert calls(toy)[3:] == ["finetune", "finetune", "evaluate"]
    assert not (toy.path / ".cliptune/tune/tree").exists()
    assert [child for child in psutil.Process().children() if child not in others] == []


def test_the_first_trial_is_the_present_and_the_best_is_the_best(toy: Toy, swept: Sweep) -> None:
    first, *others = swept.trials
    metrics = read_json(toy.path / "metrics/finetune.json")
    assert (first.values, first.value) == ({"finetune.lr": 5e-4}, metrics["val_mean_r1"])
    assert [trial.state for trial in swept.trials] == ["done"] * 3
    assert all(1e-4 <= trial.values["finetune.lr"] <= 1e-1 for trial in others)
    assert swept.best.value == max(trial.value or 0 for trial in swept.trials)
    again = sweep(toy, 3)
    assert again == swept
    assert calls(toy)[6:] == []


def test_trials_are_experiments_and_runs(toy: Toy, swept: Sweep) -> None:
    names = [f"tune-{swept.name}-{number:02}" for number in (1, 2, 3)]
    best = f"tune-best-{swept.name}-{swept.best.number:02}"
    assert experiments(toy) == sorted([*names, best])
    marked = [run for run in toy.runs() if run.data.tags.get("tune.study") == swept.name]
    by_trial = {
        number: {run.info.run_name for run in marked if run.data.tags["tune.trial"] == str(number)}
        for number in (1, 2, 3)
    }
    for trial, name in zip(swept.trials[1:], names[1:], strict=True):
        assert {name, f"finetune {name}"} <= by_trial[trial.number]
        (run,) = [run for run in marked if run.info.run_name == f"finetune {name}"]
        assert run.info.status == "FINISHED"
        assert float(run.data.tags["tune.value"]) == trial.value
        assert float(run.data.params["finetune.lr"]) == trial.values["finetune.lr"]
        assert str(toy.path / "mlruns") in run.info.artifact_uri
    assert len(by_trial[1]) >= 2  # the runs of `dvc repro`, which made what the first trial found


def test_what_there_is_to_apply_is_told(toy: Toy, swept: Sweep) -> None:
    told = table(swept)
    best, here = (read_json(toy.path / "metrics/finetune.json")["val_mean_r1"] / 2,) * 2
    best = (swept.best.value or 0) / 2
    assert f"\n  dvc exp apply {swept.experiment}\n" in told
    assert f"has {best:.4f}, and {here:.4f} that of this work tree (top1" in told
    lines = told.splitlines()
    assert lines[0] == f"study {swept.name}, on the validation split (higher is better)"
    assert lines[3].split()[:2] == [str(swept.best.number), f"{swept.best.value:.4f}"]
    assert lines[3].endswith("best")
    assert sum(line.endswith("the params as they stand") for line in lines) == 1


def test_more_trials_go_on_with_the_study(toy: Toy, swept: Sweep) -> None:
    before = calls(toy)
    more = sweep(toy, 4)
    assert more.trials[:3] == swept.trials
    assert [trial.number for trial in more.trials] == [1, 2, 3, 4]
    assert calls(toy)[len(before) :].count("finetune") == 1
    assert more.trials[3].values not in [trial.values for trial in swept.trials]


def test_the_best_is_an_experiment_to_apply(toy: Toy) -> None:
    best = sweep(toy, 4)
    toy.dvc("exp", "apply", str(best.experiment))
    found = params_of.load(Params, toy.path / "params.yaml")
    assert found.finetune.lr == best.best.values["finetune.lr"]
    assert read_json(toy.path / "metrics/finetune.json")["val_mean_r1"] == best.best.value
    assert (toy.path / "models/final/model.txt").read_text() == f"{best.best.value}\n"
    assert "up to date" in toy.dvc("repro")
    # Then it is the present, and another study begins with it.
    again = sweep(toy, 1)
    assert again.name != best.name
    assert again.experiment is None
    assert "nothing to apply" in table(again)


# without runs


def test_a_trial_that_fails_is_kept_with_its_reason(tmp_path: Path) -> None:
    toy = make(tmp_path / "toy", TOO_HIGH)
    found = sweep(toy, 3)  # nothing has run before it, so the first trial runs all it needs
    assert calls(toy) == ["embed", "finetune", "finetune", "finetune"]
    assert [trial.state for trial in found.trials] == ["done", "failed", "failed"]
    why = f"the loss is nan, at learning rate {found.trials[1].values['finetune.lr']:.2g}"
    assert found.trials[1].why == why
    assert found.experiment is None
    told = table(found)
    assert "The params as they stand are the best" in told
    assert why in told
    assert experiments(toy) == [f"tune-{found.name}-01"]


def test_where_all_fail_the_sweep_does(tmp_path: Path) -> None:
    toy = make(tmp_path / "toy", TOO_HIGH, lr="1.5")
    before = state(toy)
    with pytest.raises(TrainingError, match=r"all 3 trials failed; the last: the loss is nan"):
        sweep(toy, 20)
    assert state(toy) == before
    assert experiments(toy) == []


def begin(toy: Toy, *arguments: str) -> tuple["subprocess.Popen[str]", list[psutil.Process]]:
    """`cliptune tune`, and what runs below it when its trial trains and waits."""
    called = calls(toy).count("finetune")
    (toy.path / ".cliptune/hold").touch()
    script = f"from pipeline import cli; cli.main({['tune', *arguments]})"
    # A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = toy.start(sys.executable, "-c", script)
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(lambda: calls(toy).count("finetune") > called, process)
    return process, psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_sweep_that_is_stopped_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    toy = make(tmp_path / "toy", LR)
    before = state(toy)
    process, below = begin(toy)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not any(each.is_running() for each in below)
    assert not (toy.path / ".cliptune/tune/tree").exists()
    assert state(toy) == before


def test_a_sweep_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """What it had begun is ended first, and then done."""
    toy = make(tmp_path / "toy", LR)
    sweep(toy, 1)
    before = state(toy)
    process, below = begin(toy, "--trials", "2")
    process.kill()
    process.wait(PATIENCE)
    assert all(each.is_running() for each in below)
    assert state(toy) == before
    (toy.path / ".cliptune/hold").unlink()
    found = sweep(toy, 2)
    assert process.stdout is not None
    process.stdout.close()
    assert not any(each.is_running() for each in below)
    assert state(toy) == before
    assert [trial.state for trial in found.trials] == ["done", "done"]


def wait_for(done: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.1)


def test_another_sweep_waits_for_its_turn(tmp_path: Path) -> None:
    from filelock import FileLock

    toy = make(tmp_path / "toy", LR)
    (toy.path / ".cliptune/tune").mkdir()
    with (
        FileLock(toy.path / ".cliptune/tune/lock"),
        pytest.raises(DataError, match="another `clip"),
    ):
        sweep(toy, 1)


def test_without_optuna_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make(tmp_path / "toy", LR)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[tune\]' brings it"):
        sweep(toy, 1)


def test_a_space_that_cannot_be_searched_fails_before_any_work(tmp_path: Path) -> None:
    toy = make(tmp_path / "toy", "seed: {choices: [0, 1]}")
    with pytest.raises(ConfigError, match="another validation split"):
        sweep(toy, 1)
    assert calls(toy) == []
    assert not (toy.path / ".cliptune/tune").exists()


def test_the_reason_is_what_the_stage_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("epoch 1\nerror: no memory\nERROR: failed to reproduce 'finetune'\n")
    assert reason(log) == "no memory"
    log.write_text("epoch 1\nERROR: failed to reproduce 'finetune': stopped\n")
    assert reason(log) == "failed to reproduce 'finetune': stopped"
    log.write_text("Killed\n")
    assert reason(log) == "Killed"


# a grid, by DVC alone


def test_a_grid_is_queued_and_run(tmp_path: Path) -> None:
    """As README says; the queue's trees hold what git and DVC keep."""
    toy = make(tmp_path / "toy", LR)
    toy.dvc("add", "-q", "data/raw")
    toy.commit()
    toy.dvc("exp", "run", "--queue", "-S", "finetune.lr=1e-4,3e-4", "-S", "finetune.ema=null,0.99")
    toy.dvc("queue", "start")
    found = {toy.git("show", f"{ref}:params.yaml") for ref in refs(toy)}
    tried = {(line(text, "lr"), line(text, "ema")) for text in found}
    assert tried == {(lr, ema) for lr in ("0.0001", "0.0003") for ema in ("", "0.99")}
    assert calls(toy).count("finetune") == 4


def refs(toy: Toy) -> list[str]:
    found = toy.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [ref for ref in found if ref.count("/") == 4]


def line(text: str, key: str) -> str:
    """The value of a key of finetune, as the file has it."""
    return text.partition(f"\n  {key}:")[2].partition("\n")[0].strip()
