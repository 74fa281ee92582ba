"""A training that stopped and went on in another process is the one that never stopped."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import TrainingError
from pipeline.training.checkpoint import Checkpoint, Checkpoints
from pipeline.training.state import pack, rng_state, unpack
from tests.drawing import ROOT


class Small(nn.Module):
    """What makes exactness hard: dropout, batch norm, tied weights, channels last, bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.gain = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.drop(self.norm(self.first(images)).relu().mean((2, 3)))
        return self.two(self.drop(self.one(hidden)).tanh()) * self.gain.float() * self.scale


class Training:
    """A tiny training: all its randomness is torch's own."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = Small().to(memory_format=torch.channels_last).train()
        weights = [w for w in self.model.parameters() if w.requires_grad]
        groups = [{"params": weights[:2], "weight_decay": 0.1}, {"params": weights[2:], "lr": 0.05}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
        self.ema = {name: w.detach().clone() for name, w in self.model.named_parameters()}

    def steps(self, count: int) -> "Training":
        for _ in range(count):
            images = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
            self.optimizer.zero_grad()
            self.model(images).square().mean().backward()
            self.optimizer.step()
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.9
            for name, weight in self.model.named_parameters():
                self.ema[name].lerp_(weight.detach(), 0.1)
        return self

    def pack(self, **changes):
        return pack(self.model, self.optimizer, state={"epoch": 1}, **{"ema": self.ema} | changes)

    def unpack(self, checkpoint: Checkpoint, **changes):
        return unpack(checkpoint, self.model, self.optimizer, **{"ema": self.ema} | changes)

    def everything(self) -> dict[str, Tensor]:
        tensors, rest = self.pack()
        assert rest["groups"][1]["betas"] == (0.9, 0.98)
        rates = [group["lr"] for group in rest["groups"]]
        return {**tensors, "rates": torch.tensor(rates, dtype=torch.float64)}


def as_checkpoint(training: Training, **changes) -> Checkpoint:
    return Checkpoint(3, *training.pack(**changes))


RESUMED = """
    import sys
    from pathlib import Path
    import safetensors.torch
    import torch
    from pipeline.training.checkpoint import Checkpoints
    from tests.training.test_state import Training

    torch.rand(17)
    training = Training()
    checkpoints = Checkpoints(Path(sys.argv[1]), {"test": 1})
    assert training.unpack(checkpoints.newest()) == {"epoch": 1}
    found = {n: t.clone().contiguous() for n, t in training.steps(3).everything().items()}
    safetensors.torch.save_file(found, sys.argv[2])
"""


def test_three_steps_and_three_in_another_process_are_six(tmp_path: Path) -> None:
    expected = {name: t.clone() for name, t in Training().steps(6).everything().items()}
    half = Training().steps(3)
    Checkpoints(tmp_path, {"test": 1}).save(3, *half.pack())
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RESUMED), str(tmp_path), str(tmp_path / "found")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    found = load_file(tmp_path / "found")
    assert {name.partition(".")[0] for name in expected} == {
        "model", "optimizer", "ema", "rng", "rates",
    }  # fmt: skip
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert not torch.equal(half.pack()[0]["model.first.weight"], expected["model.first.weight"])


def test_so_are_they_with_the_optimiser_that_a_gpu_has() -> None:
    """Fused: its count of steps lies with the weights."""

    def fused() -> Training:
        training = Training()
        groups = training.optimizer.param_groups
        for group in groups:
            group["fused"], group["foreach"] = True, None
        return training

    whole = {name: t.clone() for name, t in fused().steps(6).everything().items()}
    again = fused()
    again.unpack(as_checkpoint(fused().steps(3)))
    for name, value in again.steps(3).everything().items():
        assert torch.equal(value, whole[name]), name
    assert any(
        not torch.equal(value, whole[name]) for name, value in Training().steps(6).pack()[0].items()
    )


def test_state_and_weights_keep_their_memory_format_and_types(tmp_path: Path) -> None:
    Checkpoints(tmp_path, {}).save(3, *Training().steps(3).pack())
    again = Training()
    again.unpack(Checkpoints(tmp_path, {}).newest())
    weight, state = again.model.first.weight, again.optimizer.state
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert state[weight]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    assert state[again.model.gain]["exp_avg"].dtype == torch.bfloat16
    assert again.model.two.weight is again.model.one.weight
    assert again.optimizer.param_groups[0]["betas"] == (0.9, 0.98)
    assert again.optimizer.param_groups[0]["lr"] == 0.01 * 0.9 * 0.9 * 0.9


def test_what_was_unpacked_does_not_share_memory_with_the_checkpoint() -> None:
    checkpoint = as_checkpoint(Training().steps(1))
    kept = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
    again = Training()
    again.unpack(checkpoint)
    again.steps(2)
    assert all(torch.equal(checkpoint.tensors[name], value) for name, value in kept.items())


def test_each_process_gets_its_own_generators_back() -> None:
    training = Training()
    states, draws = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(rng_state())
        draws.append(torch.rand(3))
    checkpoint = as_checkpoint(training, rngs=states)
    for process in (1, 0):
        training.unpack(checkpoint, process=process)
        assert torch.equal(torch.rand(3), draws[process])
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    training.unpack(checkpoint, process=2)  # there was none then
    assert torch.equal(torch.rand(3), expected)


def wider(training: Training) -> None:
    training.model.one.bias = nn.Parameter(torch.zeros(9))


def regrouped(training: Training) -> None:
    training.optimizer.add_param_group({"params": [training.model.frozen]})


def reordered(training: Training) -> None:
    training.optimizer.param_groups[1]["params"].reverse()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (wider, r"one\.bias was \(8,\) torch\.float32 and is \(9,\)"),
        (regrouped, r"its groups had \[2, 7\] weights and have \[2, 7, 1\]"),
        (reordered, "its weight is"),
        (lambda training: training.ema.clear(), "averaged weights: first.bias was .* is absent"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_before_anything_changes(change, told) -> None:
    checkpoint = as_checkpoint(Training().steps(1))
    again = Training()
    change(again)
    before = again.model.first.weight.detach().clone()
    with pytest.raises(TrainingError, match=told):
        again.unpack(checkpoint)
    assert torch.equal(again.model.first.weight, before)


@pytest.mark.gpu
def test_a_gpus_generator_comes_back() -> None:
    torch.rand(1, device="cuda")
    training = Training()
    checkpoint = as_checkpoint(training)
    expected = torch.rand(3, device="cuda")
    training.unpack(checkpoint)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
