"""Several processes train as one does, end together, and go on from what they left."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from pipeline import paths
from pipeline.clip.model import Clip
from pipeline.errors import TrainingError
from pipeline.training.job import Finetuned
from tests.drawing import ROOT
from tests.training import tree

TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
COLUMNS = ["epoch", "train_loss", "val_loss", "logit_scale"]


@pytest.fixture
def work_tree(
    pictures: Path, tiny: Clip, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Makes the current folder one; `make(lr=…)` takes what params.yaml is to say."""
    monkeypatch.chdir(pictures)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CLIPTUNE_CHECKPOINT_S", "0")
    monkeypatch.setenv("CLIPTUNE_PROCESSES", "2")

    def stop(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    yield lambda **changes: tree.make(pictures, tiny, **changes)
    signal.signal(signal.SIGTERM, before)


_ALONE: dict[str, Any] = {}


def alone(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """History, curves and weights of one process that nobody stopped; trained once."""
    if not _ALONE:
        with monkeypatch.context() as patched:
            patched.setenv("CLIPTUNE_PROCESSES", "1")
            _ALONE.update(trained())
    return _ALONE


def trained(at_point: Callable[[], object] = lambda: None) -> dict[str, Any]:
    losses: dict[int, float] = {}

    def log(values: Any, step: int) -> None:
        if "loss" in values:
            assert step not in losses
            losses[step] = values["loss"]
        at_point()

    tuned: Finetuned = tree.finetune(log)
    tuned.checkpoints.clear()
    return {"history": tree.history(), "losses": losses, "weights": tuned.clip.model.state_dict()}


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal but for the order in which numbers were added."""
    assert list(found["losses"]) == list(range(1, tree.STEPS + 1))
    torch.testing.assert_close(found["losses"], expected["losses"], **TOLERANCE)
    pd.testing.assert_frame_equal(
        found["history"][COLUMNS], expected["history"][COLUMNS], **TOLERANCE
    )
    assert len(found["history"]) == 9
    assert found["history"].train_loss[8] < found["history"].train_loss[1]


def test_two_processes_end_as_one_does_and_one_that_was_killed_changes_no_bit(
    work_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work_tree()
    expected = alone(monkeypatch)
    whole = trained()
    compare(whole, expected)
    assert tree.checkpoints() == []

    def kill() -> None:
        if tree.checkpoints() and (process := tree.rank(1)):
            process.kill()

    with pytest.raises(TrainingError, match=r"process 1 of 2 was killed \(SIGKILL.*`dvc repro`"):
        trained(kill)
    assert 0 < tree.checkpoints()[-1] < tree.STEPS
    again = trained()
    assert again["losses"] == whole["losses"]
    assert all(torch.equal(w, whole["weights"][name]) for name, w in again["weights"].items())


def test_a_stage_that_is_told_to_end_leaves_a_checkpoint_for_any_number_of_processes(
    work_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    work_tree()
    expected = alone(monkeypatch)
    steps: list[int] = []

    def log(values: Any, step: int) -> None:
        steps.append(step)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setenv("CLIPTUNE_CHECKPOINT_S", "600")
    with pytest.raises(SystemExit):
        tree.finetune(log)
    assert tree.rank(0) is tree.rank(1) is None
    (kept,) = tree.checkpoints()
    assert 0 < kept < tree.STEPS
    monkeypatch.setenv("CLIPTUNE_PROCESSES", "1")
    tuned = tree.finetune()
    said = f"goes on at step {kept + 1}, from a checkpoint of 2 processes, now 1"
    assert said in capsys.readouterr().out
    found = tree.history()[COLUMNS]
    pd.testing.assert_frame_equal(found, expected["history"][COLUMNS], **TOLERANCE)
    assert tuned.found["epochs"] == 8


def test_a_bad_step_is_told_once_with_its_rows(
    work_tree: Callable[..., None], tiny: Clip, capfd: Any
) -> None:
    with torch.no_grad():
        tiny.model.text_projection.fill_(float("nan"))
    work_tree()
    with pytest.raises(TrainingError, match=r"step 1: loss nan.*lower finetune.lr") as stopped:
        tree.finetune()
    assert stopped.value.left == paths.failed_folder("finetune")
    assert len(pd.read_csv(stopped.value.left / "batch.csv")) == 5
    assert "Traceback" not in capfd.readouterr().err


def test_a_tower_is_looked_up_by_shares_and_micro_batches_change_nothing(
    work_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    work_tree(method="lit", lock="{image: null, text: all}", micro_batch=2)
    found = trained()
    said = capfd.readouterr().err
    assert said.count("8 texts: 0 from the cache, 8 computed") == 2
    monkeypatch.setenv("CLIPTUNE_PROCESSES", "1")
    compare(found, trained())
    assert "16 texts: 16 from the cache" in capfd.readouterr().err


def test_batch_norm_that_would_learn_is_refused(work_tree: Callable[..., None]) -> None:
    work_tree(freeze_batch_norm="false")
    with pytest.raises(TrainingError, match=r"batch norm in training mode: .*CLIPTUNE_PROCESSES=1"):
        tree.finetune()


def agent(port: int, *, host: bool) -> subprocess.Popen[bytes]:
    """torchrun on one of up to two machines, in a group of its own, as its processes are."""
    conf = f"is_host={int(host)},last_call_timeout=10,keep_alive_interval=1"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1",
        "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test",
        "--local-addr=127.0.0.1", f"--rdzv-conf={conf}", "--max-restarts=3",
        "-m", "stages.finetune_rank",
    ]  # fmt: skip
    with Path(f"agent-{int(host)}.log").open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def is_of_two(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.environ()["WORLD_SIZE"] == "2"
    except psutil.Error:
        return False


def test_a_machine_is_lost_and_the_rest_ends_with_the_same_loss(
    work_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Two agents of torchrun; the one without the rendezvous is killed with all its processes."""
    work_tree()
    expected = alone(monkeypatch)
    monkeypatch.delenv("CLIPTUNE_PROCESSES")
    port = free_port()
    agents = [agent(port, host=host) for host in (True, False)]
    try:
        until = time.monotonic() + 300
        while not (tree.checkpoints() and is_of_two(tree.rank(1))):
            assert time.monotonic() < until, Path("agent-1.log").read_text()
            time.sleep(0.02)
        os.killpg(agents[1].pid, signal.SIGKILL)
        assert agents[0].wait(300) == 0, Path("agent-1.log").read_text()
    finally:
        for started in agents:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
    said = Path("agent-1.log").read_text()
    assert "from a checkpoint of 2 processes, now 1" in said
    assert "trained: run `dvc repro`" in said
    start = time.monotonic()
    found = trained()
    assert time.monotonic() - start < 60
    assert "trained already" in capsys.readouterr().out
    compare(found, expected)
