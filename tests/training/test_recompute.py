"""Activations computed anew: the same gradients, blocks twice, an error where it can't be."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.errors import ConfigError, ModelError
from pipeline.params import LockParams, Params
from pipeline.training import methods
from pipeline.training.known import NOTHING
from tests.small import vit
from tests.training.test_finetune import pairs_of
from tests.training.test_known import VIT, gradients, params_of


def made(folder: Path) -> Clip:
    """OpenCLIP's ViT, with dropout of patches and of attention."""
    file = folder / "vit-known.json"
    file.write_text(json.dumps(VIT))
    clip = clip_model.create("vit-known", file, seed=0)
    for module in clip.model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.2
    return clip


def counted(model: nn.Module) -> list[str]:
    """Fills up with the names of blocks as they begin: what is computed anew may end early."""
    found: list[str] = []
    for name, module in model.named_modules():
        if name.rpartition(".")[0].endswith("resblocks"):
            module.register_forward_pre_hook(lambda *_, name=name: found.append(name))
    return found


@pytest.mark.parametrize("cached", [False, True], ids=["whole", "micro-batches"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradients_are_the_same_and_blocks_compute_twice(
    tmp_path: Path, pictures: Path, defaults: Params, method: str, cached: bool
) -> None:
    pairs = pairs_of(pictures, defaults)
    found: list[tuple[float, dict[str, torch.Tensor], int]] = []
    for anew in (False, True):
        clip = made(tmp_path)
        calls = counted(clip.model)
        params = params_of(defaults, method=method, checkpoint_activations=anew)
        loss, grads = gradients(clip, pictures, pairs, params, NOTHING, cached=cached)
        found.append((loss, grads, len(calls)))
    (loss, grads, once), (same_loss, same, twice) = found
    assert same_loss == loss
    assert same.keys() == grads.keys()
    assert max(gradient.abs().max().item() for gradient in grads.values()) > 1e-3
    for name, gradient in grads.items():
        assert torch.equal(same[name], gradient), name
    blocks, parts = 4, 3
    # The cache's first pass asks for a graph of its first micro-batch alone, and drops it.
    assert once == (2 * blocks * parts if cached else blocks)
    assert twice == (3 * blocks * parts if cached else 2 * blocks)


def test_afterwards_all_is_kept_again() -> None:
    model, params = vit(), anew("full")
    with methods.prepared(model, params, seed=0):
        assert model.visual.transformer.grad_checkpointing
        assert model.transformer.grad_checkpointing
    assert not model.visual.transformer.grad_checkpointing
    assert not model.transformer.grad_checkpointing


def anew(method: str, **changes: Any) -> Any:
    from pipeline.params import load
    from tests.drawing import ROOT

    asked = {"method": method, "checkpoint_activations": True, **changes}
    return load(Params, ROOT / "params.yaml").finetune.model_copy(update={"distil": 0.0, **asked})


def test_a_tower_that_can_not_is_named_with_the_remedy(tiny: Clip) -> None:
    with (
        pytest.raises(ModelError, match=r"the image tower of this model.*finetune\.micro_batch"),
        methods.prepared(tiny.model, anew("full"), seed=0),
    ):
        pass
    assert not tiny.model.transformer.grad_checkpointing
    lock = LockParams(image="all", text=None)
    with methods.prepared(tiny.model, anew("lit", lock=lock), seed=0):  # its ResNet never runs
        assert tiny.model.transformer.grad_checkpointing


def test_batch_norm_in_training_mode_is_refused() -> None:
    model = vit()
    model.visual.norm = nn.BatchNorm1d(2)
    with (
        pytest.raises(ConfigError, match=r"batch norm.*finetune\.freeze_batch_norm to true"),
        methods.prepared(model, anew("full", freeze_batch_norm=False), seed=0),
    ):
        pass
    with methods.prepared(model, anew("full", freeze_batch_norm=True), seed=0):
        assert model.visual.transformer.grad_checkpointing
