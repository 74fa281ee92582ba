"""Compiled towers: the plain model's gradients, a restart to the same bits, an early error."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from test_resume import Trained, same, stoppable

from pipeline.clip import model as clip_model
from pipeline.clip.layers import stack
from pipeline.errors import ConfigError
from pipeline.params import Params
from pipeline.training import compiling
from pipeline.training.known import NOTHING
from tests.small import timm_vit, vit
from tests.training.test_finetune import pairs_of
from tests.training.test_known import CPU, VIT, gradients, params_of

__all__ = ["stoppable"]

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_blocks_are_compiled_and_plain_again() -> None:
    model = vit(blocks=2)
    blocks = [*model.visual.transformer.resblocks, *model.transformer.resblocks]
    names = list(model.state_dict())
    with compiling.compiled(model, wanted=True):
        assert all(block._compiled_call_impl is not None for block in blocks)
        assert list(model.state_dict()) == names
    assert all(block._compiled_call_impl is None for block in blocks)
    with compiling.compiled(model, wanted=False):
        assert all(block._compiled_call_impl is None for block in blocks)


def test_the_stack_of_a_tower() -> None:
    model = vit(blocks=2)
    assert stack(model.visual) == [*model.visual.transformer.resblocks]
    assert stack(model.transformer) == [*model.transformer.resblocks]
    assert stack(timm_vit().visual)
    assert stack(torch.nn.Linear(1, 1)) == []


@needs_compiler
def test_without_a_compiler_it_says_so_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo
    from torch._inductor import config

    torch._dynamo.reset()
    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/g++",))
    with pytest.raises(ConfigError, match=r"finetune\.compile is true.*install a C\+\+ compiler"):
        compiling.need(CPU)
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.slow
def test_gradients_are_those_of_the_plain_model(
    tmp_path: Path, pictures: Path, defaults: Params
) -> None:
    file = tmp_path / "vit-known.json"
    plain_vision = {**VIT["vision_cfg"], "patch_dropout": 0.0}
    file.write_text(json.dumps({**VIT, "vision_cfg": plain_vision}))
    pairs, params = pairs_of(pictures, defaults), params_of(defaults)
    clip = clip_model.create("vit-known", file, seed=0)
    loss, wanted = gradients(clip, pictures, pairs, params, NOTHING)
    wanted = {name: gradient.clone() for name, gradient in wanted.items()}
    clip.model.zero_grad()
    compiling.need(CPU)
    with compiling.compiled(clip.model, wanted=True):
        again, found = gradients(clip, pictures, pairs, params, NOTHING)
        counters = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert counters >= 2
    assert again == pytest.approx(loss, abs=1e-5)
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() < 1e-4 * max(gradient.abs().max(), 1e-2), name


@needs_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("stoppable")
def test_a_stopped_training_ends_with_the_same_bits(
    tmp_path: Path, pictures: Path, defaults: Params
) -> None:
    """Its first batch after the stop has other texts than the first of all."""
    whole = Trained(pictures, defaults, tmp_path / "whole", compile=True).run()
    plain = Trained(pictures, defaults, tmp_path / "plain").run()
    assert not same(whole, plain)
    first = Trained(pictures, defaults, tmp_path / "kept", compile=True)
    with pytest.raises(SystemExit):
        first.run(lambda now: signal.raise_signal(signal.SIGTERM) if now == 6 else None)
    torch._dynamo.reset()
    assert same(Trained(pictures, defaults, tmp_path / "kept", compile=True).run(), whole)
