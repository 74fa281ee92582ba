import math

import pytest
import torch

from pipeline.clip.model import Clip
from pipeline.params import Params
from pipeline.training import optim, rates


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [optim.learning_rate(s, steps=100, warmup=0.1, peak=2.0) for s in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[99] < 0.001
    assert max(rates) == rates[9]


def test_one_step_without_warmup_trains_at_the_peak() -> None:
    assert optim.learning_rate(0, steps=1, warmup=0.0, peak=2.0) == 2.0


def test_matrices_decay_and_nothing_else(tiny: Clip, defaults: Params) -> None:
    made = rates.optimizer(tiny.model, defaults.finetune)
    names = {id(w): name for name, w in tiny.model.named_parameters()}
    with_decay, without = ({names[id(w)] for w in g["params"]} for g in made.param_groups)
    assert [g["weight_decay"] for g in made.param_groups] == [0.1, 0.0]
    assert len(with_decay) + len(without) == len(names)
    assert "logit_scale" in without
    assert "token_embedding.weight" in without
    assert "positional_embedding" in without
    assert "visual.attnpool.positional_embedding" in without
    assert "ln_final.weight" in without
    assert "text_projection" in with_decay
    assert "visual.conv1.weight" in with_decay
    assert "transformer.resblocks.0.attn.in_proj_weight" in with_decay


def test_the_scale_stays_within_one_and_a_hundred(tiny: Clip) -> None:
    for start, end in ((9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        with torch.no_grad():
            tiny.model.logit_scale.fill_(start)
        optim.clamp_scale(tiny.model)
        assert tiny.model.logit_scale.item() == pytest.approx(end)


def test_frozen_batch_norm_keeps_its_statistics(tiny: Clip) -> None:
    batch = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    statistics = tiny.model.visual.bn1.running_mean
    before = statistics.clone()
    optim.train_mode(tiny.model, freeze_batch_norm=True)
    tiny.model.encode_image(batch)
    assert torch.equal(statistics, before)
    optim.train_mode(tiny.model, freeze_batch_norm=False)
    tiny.model.encode_image(batch)
    assert not torch.equal(statistics, before)
