"""The ways of fine-tuning, through the loop: what moves, what stays, what comes out."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.errors import ConfigError
from pipeline.params import LockParams, LoraParams, Params
from pipeline.training import methods
from pipeline.training.average import Average
from pipeline.training.learner import coded
from pipeline.training.optim import Towards
from tests.drawing import ROOT
from tests.training.test_finetune import pairs_of, run

LORA = {"rank": 2, "alpha": 4.0, "targets": ["query", "value", "mlp"], "from_depth": 1}


def weights_of(clip: Clip) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in clip.model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], clip: Clip) -> set[str]:
    after = clip.model.state_dict()
    assert list(after) == list(before)
    return {name for name, weight in before.items() if not torch.equal(weight, after[name])}


def tuned(clip: Clip, source: Path, defaults: Params, **changes: Any) -> set[str]:
    """Two epochs; the names of the weights that moved. What is kept is the last, not the best."""
    before = weights_of(clip)
    settings = {"freeze_batch_norm": True, "lr": 1e-2, "warmup": 0.0, **changes}
    fitted, _ = run(clip, pairs_of(source, defaults), source, defaults, **settings)
    assert fitted.best > 0, "the test needs an epoch that is better than the base"
    return moved(before, clip)


def test_a_locked_tower_keeps_every_bit(tiny: Clip, pictures: Path, defaults: Params) -> None:
    lock = LockParams(image="all", text=None)
    names = tuned(tiny, pictures, defaults, method="lit", lock=lock)
    assert names
    assert not [name for name in names if name.startswith("visual.")]


def test_blocks_up_to_a_number_keep_every_bit(tiny: Clip, pictures: Path, defaults: Params) -> None:
    lock = LockParams(image=None, text=1)
    names = tuned(tiny, pictures, defaults, method="lit", lock=lock)
    assert "token_embedding.weight" not in names
    assert not [name for name in names if name.startswith("transformer.resblocks.0.")]
    assert [name for name in names if name.startswith("transformer.resblocks.1.")]


def test_low_rank_updates_end_in_a_plain_model(
    tiny: Clip, pictures: Path, defaults: Params
) -> None:
    trained = {name: w.requires_grad for name, w in tiny.model.named_parameters()}
    before = weights_of(tiny)
    names = tuned(tiny, pictures, defaults, method="lora", lora=LoraParams(**LORA))
    assert "transformer.resblocks.0.attn.in_proj_weight" in names
    assert "transformer.resblocks.1.mlp.c_proj.weight" in names
    assert not [name for name in names if name.endswith(("out_proj.weight", "ln_1.weight"))]
    change = tiny.model.state_dict()["transformer.resblocks.0.mlp.c_fc.weight"]
    change = change - before["transformer.resblocks.0.mlp.c_fc.weight"]
    assert torch.linalg.matrix_rank(change, rtol=1e-3) == 2
    assert {name: w.requires_grad for name, w in tiny.model.named_parameters()} == trained


def test_micro_batches_train_as_the_whole_batch_does(pictures: Path, defaults: Params) -> None:
    config = ROOT / "samples" / "base_model" / "scenes-resnet.json"
    losses = []
    for micro in (None, 3):
        clip = clip_model.create("scenes-resnet", config, seed=0)
        settings = {"micro_batch": micro, "freeze_batch_norm": True, "lr": 1e-3, "epochs": 3}
        _, logged = run(clip, pairs_of(pictures, defaults), pictures, defaults, **settings)
        losses.append([values["loss"] for _, values in logged if "loss" in values])
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], abs=2e-4)
    assert max(losses[0]) - min(losses[0]) > 0.05


def test_a_siglip_model_learns_by_its_own_loss(
    tmp_path: Path, pictures: Path, defaults: Params
) -> None:
    config = json.loads((ROOT / "samples" / "base_model" / "scenes-resnet.json").read_text())
    config |= {"init_logit_scale": 2.3, "init_logit_bias": -3.0}
    (tmp_path / "scenes-sigmoid.json").write_text(json.dumps(config))
    clip = clip_model.create("scenes-sigmoid", tmp_path / "scenes-sigmoid.json", seed=0)
    pairs = pairs_of(pictures, defaults).iloc[:8].reset_index(drop=True)
    fitted, logged = run(clip, pairs, pictures, defaults, epochs=60, lr=3e-3)
    losses = [values["loss"] for _, values in logged if "loss" in values]
    assert losses[-1] < losses[0] / 3
    assert fitted.history[fitted.best]["val_mean_r1"] > 0.5
    assert clip.model.logit_bias.item() != -3.0


def test_a_loss_that_the_model_can_not_have_is_refused(tiny: Clip) -> None:
    assert methods.loss_of(tiny.model, "auto") == "info_nce"
    with pytest.raises(ConfigError, match="needs a logit bias"):
        methods.loss_of(tiny.model, "sigmoid")


def test_training_ends_when_no_epoch_was_better_for_long(
    tiny: Clip, pictures: Path, defaults: Params
) -> None:
    pairs = pairs_of(pictures, defaults)
    run(tiny, pairs, pictures, defaults, epochs=20)
    fitted, _ = run(tiny, pairs, pictures, defaults, lr=3.0, warmup=0.0, epochs=9, patience=2)
    assert fitted.best == 0
    assert [row["epoch"] for row in fitted.history] == [0, 1, 2]


def test_near_duplicates_and_equal_captions_are_twins() -> None:
    pairs = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d"],
            "image_group": ["a", "a", None, None],
            "caption": ["A dog", "a cat", "a  DOG", "an owl"],
            "label": ["x", None, "x", "y"],
        }
    )
    image, caption, label = coded(pairs).codes
    assert image.tolist() == [0, 0, 1, 2]
    assert caption[0] == caption[2]
    assert len(set(caption.tolist())) == 3
    assert label is not None
    assert label.tolist() == [0, -1, 0, 1]


def test_the_mean_of_the_weights_is_what_is_kept() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    values = [0.0, 1.0, 2.0]
    with torch.no_grad():
        net.weight.fill_(values[0])
    average = Average(net, decay=0.5)
    expected = values[0]
    for step, value in enumerate(values[1:], start=1):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.snapshot()["weight"].item() == pytest.approx(expected)
    assert net.weight.item() == 2.0
    with average.applied():
        assert net.weight.item() == pytest.approx(expected)
    plain = Average(net, decay=None)
    plain.update()
    assert plain.snapshot()["weight"].item() == 2.0


def test_the_pull_goes_a_share_of_the_way_back() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    towards, off = Towards(net, strength=2.0), Towards(net, strength=0.0)
    with torch.no_grad():
        net.weight.fill_(5.0)
    off.pull(0.1)
    assert net.weight.item() == 5.0
    towards.pull(0.1)
    assert net.weight.item() == pytest.approx(5.0 - 0.2 * 4.0)
