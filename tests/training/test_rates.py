"""Layer-wise decay and tower rates, by hand."""

import copy

import pytest
import torch
from torch import nn

from pipeline.clip import adapters
from pipeline.clip.layers import layers
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from pipeline.params import Params
from pipeline.training import optim, rates
from pipeline.training.rates import groups
from tests import small


def shares(model: nn.Module, **changes: float) -> dict[str, tuple[float, float]]:
    """(lr_scale, weight decay) of each weight that trains."""
    settings = {"weight_decay": 0.1, "layer_decay": 0.5, "image_lr": 1.0, "text_lr": 1.0}
    made = groups(model, layers(model), **{**settings, **changes})
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {
        names[id(weight)]: (group["lr_scale"], group["weight_decay"])
        for group in made
        for weight in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in made)
    assert len({(group["lr_scale"], group["weight_decay"]) for group in made}) == len(made)
    return found


def test_rates_fall_with_depth_in_a_model_of_four_blocks() -> None:
    found = shares(small.vit(blocks=4), image_lr=0.25, text_lr=2.0)
    # Four blocks: the head at depth 5 takes γ^0, block 4 γ^1, … block 1 γ^4, the stem γ^5.
    assert found["visual.proj"] == (0.25, 0.1)
    assert found["visual.ln_post.weight"] == (0.25, 0.0)
    assert found["visual.transformer.resblocks.3.mlp.c_fc.weight"] == (0.125, 0.1)
    assert found["visual.transformer.resblocks.0.mlp.c_fc.weight"] == (0.015625, 0.1)
    assert found["visual.conv1.weight"] == (0.0078125, 0.1)
    assert found["visual.class_embedding"] == (0.0078125, 0.0)
    assert found["text_projection"] == (2.0, 0.1)
    assert found["transformer.resblocks.3.attn.in_proj_weight"] == (1.0, 0.1)
    assert found["transformer.resblocks.2.attn.in_proj_bias"] == (0.5, 0.0)
    assert found["transformer.resblocks.1.attn.out_proj.weight"] == (0.25, 0.1)
    assert found["transformer.resblocks.0.attn.out_proj.weight"] == (0.125, 0.1)
    assert found["token_embedding.weight"] == (0.0625, 0.0)
    assert found["positional_embedding"] == (0.0625, 0.0)
    assert found["logit_scale"] == (1.0, 0.0)


def test_groups_are_few_and_in_one_order() -> None:
    model = small.vit(blocks=4)
    settings = {"weight_decay": 0.1, "layer_decay": 0.5, "image_lr": 1.0, "text_lr": 1.0}
    made = groups(model, layers(model), **settings)
    keys = [(group["lr_scale"], group["weight_decay"]) for group in made]
    shared = [(0.5**k, decay) for k in range(6) for decay in (0.1, 0.0)]  # both towers in each
    assert keys == shared
    again = groups(copy.deepcopy(model), layers(model), **settings)
    assert [len(g["params"]) for g in again] == [len(g["params"]) for g in made]


def test_without_decay_by_depth_there_are_two_groups(tiny: Clip, defaults: Params) -> None:
    """Those that decay and those that don't, each in the model's order, both at the full rate."""
    made = rates.optimizer(tiny.model, defaults.finetune).param_groups
    weights = list(tiny.model.named_parameters())
    expected = [[w for n, w in weights if optim.decays(n, w) is decay] for decay in (True, False)]
    assert [group["weight_decay"] for group in made] == [defaults.finetune.weight_decay, 0.0]
    assert [group["lr_scale"] for group in made] == [1.0, 1.0]
    for group, own in zip(made, expected, strict=True):
        assert [id(w) for w in group["params"]] == [id(w) for w in own]


def test_a_step_moves_each_weight_by_its_share() -> None:
    model = small.vit(blocks=4)
    made = groups(
        model, layers(model), weight_decay=0.0, layer_decay=0.5, image_lr=0.25, text_lr=1.0
    )
    optimizer = torch.optim.AdamW(made, lr=1.0, eps=1e-12)
    assert optim.set_rate(optimizer, 0.01) == 0.01
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()  # of Adam's first step each number moves by its learning rate
    moved = {n: (before[n] - w.detach()).abs().max().item() for n, w in model.named_parameters()}
    assert moved["visual.proj"] == pytest.approx(0.0025, rel=1e-3)
    assert moved["visual.transformer.resblocks.2.mlp.c_fc.weight"] == pytest.approx(
        0.01 * 0.25 * 0.25, rel=1e-3
    )
    assert moved["token_embedding.weight"] == pytest.approx(0.01 / 32, rel=1e-3)
    assert moved["logit_scale"] == pytest.approx(0.01, rel=1e-3)


def test_frozen_weights_are_left_out_and_updates_decay() -> None:
    model = small.vit(blocks=4)
    adapters.add(model, rank=2, alpha=2, targets=("query", "value"), from_depth=3, seed=0)
    found = shares(model)
    updates = {
        f"{tower}transformer.resblocks.{block}.attn.parametrizations.in_proj_weight.0.{half}": (
            0.5 ** (4 - block), 0.1,
        )
        for tower in ("", "visual.")
        for block in (2, 3)
        for half in "AB"
    }  # fmt: skip
    assert found == {**updates, "logit_scale": (1.0, 0.0)}


def test_depth_is_needed_only_where_rates_fall_with_it() -> None:
    model = small.vit()
    model.visual = nn.ModuleDict({"stem": nn.Linear(2, 2)})
    assert shares(model, layer_decay=1.0, image_lr=0.5)["visual.stem.weight"] == (0.5, 0.1)
    with pytest.raises(ModelError, match=r"finetune\.layer_decay needs the blocks of the image"):
        shares(model, layer_decay=0.5)
