"""A training that was stopped goes on and ends as if it had not been; a bad step is not taken."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from test_finetune import pairs_of

from pipeline.clip import device as devices
from pipeline.clip import model
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_below
from pipeline.errors import ConfigError, TrainingError
from pipeline.evaluation.retrieval import recalls
from pipeline.params import LockParams, Params
from pipeline.training import health, ledger
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.finetune import fit
from pipeline.training.known import known
from pipeline.training.learner import Learner
from pipeline.training.stopping import held
from tests.drawing import ROOT

STEPS = 12


@pytest.fixture
def stoppable() -> Iterator[None]:
    """SIGTERM as a stage takes it."""

    def stop(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


class Trained:
    """A training of 3 epochs of 4 steps on the pictures, from the same weights each time."""

    def __init__(self, source: Path, defaults: Params, kept: Path, **changes: Any) -> None:
        config = ROOT / "samples" / "base_model" / "scenes-resnet.json"
        self.clip = model.create("scenes-resnet", config, seed=0)
        self.failed = kept.parent / "failed"
        self.steps: list[int] = []
        self.seen: list[set[str]] = []
        self._pairs = pairs_of(source, defaults)
        places = places_below(self._pairs, source)
        self._crops = Crops(self.clip, places)
        self._params = defaults.finetune.model_copy(
            update={"epochs": 3, "batch_size": 4, "ema": 0.9, "toward_base": 0.01, **changes}
        )
        self._kept = Checkpoints(kept, {"training": "of a test"})
        self._device = devices.prepare(cpu_threads=2)
        self._known = known(
            self.clip, self._pairs, places, self._params, seed=0, device=self._device,
            cpu_threads=2, cache=kept.with_suffix(".vectors"),
        )  # fmt: skip

    def run(self, at_step: Callable[[int], None] = lambda step: None) -> dict[str, torch.Tensor]:
        def log(values: Any, step: int) -> None:
            if "loss" in values:
                self.steps.append(step)
                self.seen.append(set(values))
                at_step(step)

        fit(
            self.clip, self._pairs, self._pairs, crops=self._crops, params=self._params, seed=0,
            recalls=recalls, log=log, device=self._device, checkpoints=self._kept,
            failed=self.failed, known=self._known,
        )  # fmt: skip
        return self.clip.model.state_dict()


_WHOLE: dict[str, torch.Tensor] = {}


def undisturbed(source: Path, defaults: Params, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a training that nobody stopped; trained once, as pictures never differ."""
    if not _WHOLE:
        _WHOLE.update(Trained(source, defaults, folder / "whole").run())
    return _WHOLE


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("stoppable")
@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_stopped_training_ends_with_the_same_bits(
    tmp_path: Path, pictures: Path, defaults: Params, step: int
) -> None:
    """In the first epoch, at the end of one, and in the middle of another."""
    whole = undisturbed(pictures, defaults, tmp_path)
    first = Trained(pictures, defaults, tmp_path / "kept")
    with pytest.raises(SystemExit) as stopped:
        first.run(lambda now: signal.raise_signal(signal.SIGTERM) if now == step else None)
    assert stopped.value.code == 128 + signal.SIGTERM
    second = Trained(pictures, defaults, tmp_path / "kept")
    assert same(second.run(), whole)
    assert first.steps + second.steps == list(range(1, STEPS + 1))


LOOKED_UP = {
    "image": {"method": "lit", "lock": LockParams(image="all", text=1)},
    "text": {"method": "lit", "lock": LockParams(image=None, text="all")},
    "head": {"method": "head", "distil": 0.5},
    "neither, and pulls both": {"method": "full", "distil": 0.5},
}


@pytest.mark.usefixtures("stoppable")
@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("towers", LOOKED_UP)
def test_so_does_one_that_looks_towers_up(
    tmp_path: Path, pictures: Path, defaults: Params, towers: str, micro_batch: int | None
) -> None:
    """The one that goes on finds its vectors in a cache, the whole one has computed them."""
    changes = {**LOOKED_UP[towers], "micro_batch": micro_batch, "lr": 1e-4}
    before = Trained(pictures, defaults, tmp_path / "whole", **changes)
    base = {name: weight.clone() for name, weight in before.clip.model.state_dict().items()}
    whole = before.run()
    assert not same(base, whole)
    first = Trained(pictures, defaults, tmp_path / "kept", **changes)
    with pytest.raises(SystemExit):
        first.run(lambda now: signal.raise_signal(signal.SIGTERM) if now == 6 else None)
    second = Trained(pictures, defaults, tmp_path / "kept", **changes)
    assert same(second.run(), whole)
    assert first.steps + second.steps == list(range(1, STEPS + 1))


def test_kills_at_random_moments_change_nothing(tmp_path: Path, pictures: Path) -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed.py"), str(pictures), "20"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 20
    assert found["killed"] == found["whole"]


@pytest.mark.usefixtures("stoppable")
def test_a_signal_waits_for_the_end_of_a_step() -> None:
    after = []

    def step() -> None:
        with held():
            signal.raise_signal(signal.SIGTERM)
            after.append("the rest of the step")

    with pytest.raises(SystemExit):
        step()
    assert after
    with pytest.raises(SystemExit):  # and the handler of before is back
        signal.raise_signal(signal.SIGTERM)


def broken(monkeypatch: pytest.MonkeyPatch, *, at: int, cost: Callable[[Any], Any]) -> None:
    """Let the loss of step `at` go through `cost`."""
    count = iter(range(1, 1000))
    plain = Learner.cost
    monkeypatch.setattr(
        Learner,
        "cost",
        lambda *given, **named: (
            cost(plain(*given, **named)) if next(count) == at else plain(*given, **named)
        ),
    )


BROKEN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nan": (lambda loss: loss * float("nan"), r"step 11: loss nan"),
    "inf": (lambda loss: loss * float("inf"), r"step 11: loss inf"),
    "spike": (lambda loss: loss * 1000, r"step 11: the loss leapt to .*finetune.spike 3"),
    "memory": (
        lambda loss: torch.empty(1 << 50),
        r"step 11: no memory left for 4 pairs.*finetune.micro_batch to 2",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_bad_step_is_told_and_not_taken(
    tmp_path: Path, pictures: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A checkpoint of the step before stays: without the cause the training ends as it would."""
    cost, message = BROKEN[kind]
    whole = undisturbed(pictures, defaults, tmp_path)
    first = Trained(pictures, defaults, tmp_path / "kept")
    with monkeypatch.context() as patched:
        broken(patched, at=11, cost=cost)
        with pytest.raises(TrainingError, match=message) as stopped:
            first.run()
    assert stopped.value.left == first.failed
    batch = pd.read_csv(first.failed / health.BATCH_FILE)
    assert list(batch.columns) == ["source_row", "image", "caption"]
    assert len(batch) == 4
    assert str(batch.source_row[0]) in str(stopped.value)
    second = Trained(pictures, defaults, tmp_path / "kept")
    assert same(second.run(), whole)
    assert second.steps == [11, 12]


def test_other_errors_are_not_taken_for_lack_of_memory(
    tmp_path: Path, pictures: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(loss: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a defect")

    broken(monkeypatch, at=1, cost=fails)
    with pytest.raises(RuntimeError, match="a defect"):
        Trained(pictures, defaults, tmp_path / "kept").run()


def test_a_small_loss_may_double_and_a_first_one_leap() -> None:
    calm = [0.01] * 20
    assert health.trouble(0.05, 1.0, recent=calm, first=4.0, spike=3.0) is None
    assert health.trouble(4.5, 1.0, recent=calm, first=4.0, spike=3.0) is not None
    assert health.trouble(4.5, 1.0, recent=calm, first=None, spike=3.0) is None
    assert health.trouble(4.5, 1.0, recent=calm, first=4.0, spike=None) is None


def test_the_curves_of_a_step(tmp_path: Path, pictures: Path, defaults: Params) -> None:
    trained = Trained(pictures, defaults, tmp_path / "kept", epochs=1)
    trained.run()
    curves = {"loss", "lr", "grad_norm", "logit_scale", "samples_per_s", "memory_gb"}
    assert all(seen >= curves for seen in trained.seen)


def test_training_stops_when_no_epoch_is_better(
    tmp_path: Path, pictures: Path, defaults: Params
) -> None:
    """At a rate that moves nothing, after as many epochs as patience has, of four steps each."""
    trained = Trained(
        pictures, defaults, tmp_path / "kept", epochs=9, lr=1e-12, best_by="retrieval", patience=2
    )
    trained.run()
    assert len(trained.steps) == 2 * 4


@pytest.mark.parametrize("said", ["soon", "-1", "nan"])
def test_a_wrong_number_of_seconds_is_told(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("CLIPTUNE_CHECKPOINT_S", said)
    with pytest.raises(ConfigError, match="CLIPTUNE_CHECKPOINT_S is"):
        ledger.every_s()
