"""The loop, on a real model and real pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.artifacts import sha256_of
from pipeline.clip import device as devices
from pipeline.clip import model
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_below
from pipeline.errors import TrainingError
from pipeline.evaluation.retrieval import recalls
from pipeline.params import Params
from pipeline.training.finetune import Fit, fit
from tests.drawing import ROOT

Logged = list[tuple[int, dict[str, float]]]


def pairs_of(source: Path, defaults: Params) -> pd.DataFrame:
    rows = pd.read_csv(source / "captions.csv")
    ids = [sha256_of(source / image) for image in rows.image]
    return rows.assign(image_id=ids, source_row=range(1, len(rows) + 1))


def run(
    clip: Clip, pairs: pd.DataFrame, source: Path, defaults: Params, **changes: Any
) -> tuple[Fit, Logged]:
    settings = {"epochs": 2, "batch_size": 8, "freeze_batch_norm": False, **changes}
    logged: Logged = []
    fitted = fit(
        clip,
        pairs,
        pairs,
        crops=Crops(clip, places_below(pairs, source)),
        params=defaults.finetune.model_copy(update={"distil": 0.0, **settings}),
        seed=0,
        recalls=recalls,
        log=lambda values, step: logged.append((step, dict(values))),
        device=devices.prepare(cpu_threads=2),
    )
    return fitted, logged


def test_it_learns_eight_pairs_by_heart(tiny: Clip, pictures: Path, defaults: Params) -> None:
    pairs = pairs_of(pictures, defaults).iloc[:8].reset_index(drop=True)
    fitted, logged = run(
        tiny, pairs, pictures, defaults, epochs=60, best_by="retrieval", augment=None
    )
    assert fitted.history[0]["val_mean_r1"] < 0.5
    assert fitted.history[fitted.best]["val_mean_r1"] == 1.0
    losses = [values["loss"] for _, values in logged if "loss" in values]
    assert len(losses) == 60
    assert losses[-1] < losses[0] / 4


def test_the_same_seed_gives_the_same_weights_to_the_bit(pictures: Path, defaults: Params) -> None:
    config = ROOT / "samples" / "base_model" / "scenes-resnet.json"
    pairs = pairs_of(pictures, defaults)
    weights = []
    for _ in range(2):
        clip = model.create("scenes-resnet", config, seed=0)
        run(clip, pairs, pictures, defaults)
        weights.append(clip.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_best_epoch_is_kept_even_if_it_is_the_base(
    tiny: Clip, pictures: Path, defaults: Params
) -> None:
    """A learning rate that only harms: epoch 0, the model as it came, is what comes out."""
    pairs = pairs_of(pictures, defaults)
    run(tiny, pairs, pictures, defaults, epochs=30)
    before = {name: w.clone() for name, w in tiny.model.state_dict().items()}
    fitted, _ = run(tiny, pairs, pictures, defaults, lr=3.0, warmup=0.0, epochs=1)
    assert fitted.best == 0
    assert fitted.history[1]["val_loss"] > fitted.history[0]["val_loss"]
    assert all(torch.equal(w, before[name]) for name, w in tiny.model.state_dict().items())


def test_a_loss_that_is_no_number_stops_before_the_step(
    tiny: Clip, pictures: Path, defaults: Params
) -> None:
    pairs = pairs_of(pictures, defaults)
    with torch.no_grad():
        tiny.model.text_projection.fill_(float("nan"))
    before = tiny.model.visual.conv1.weight.clone()
    with pytest.raises(TrainingError, match=r"step 1: loss nan.*lower finetune.lr"):
        run(tiny, pairs, pictures, defaults)
    assert torch.equal(tiny.model.visual.conv1.weight, before)


def test_without_a_validation_split_it_says_so(
    tiny: Clip, pictures: Path, defaults: Params
) -> None:
    pairs = pairs_of(pictures, defaults)
    with pytest.raises(TrainingError, match=r"raise clean.split.val"):
        fit(
            tiny, pairs, pairs.iloc[:0], crops=Crops(tiny, places_below(pairs, pictures)),
            params=defaults.finetune.model_copy(update={"batch_size": 4}), seed=0,
            recalls=recalls, log=lambda values, step: None, device=torch.device("cpu"),
        )  # fmt: skip


def test_what_is_logged_can_be_plotted(tiny: Clip, pictures: Path, defaults: Params) -> None:
    fitted, logged = run(tiny, pairs_of(pictures, defaults), pictures, defaults)
    steps = [step for step, _ in logged]
    assert steps == sorted(steps)
    assert [row["epoch"] for row in fitted.history] == [0, 1, 2]
    assert {"loss", "lr", "grad_norm"} <= {name for _, values in logged for name in values}
    assert 1 <= fitted.history[1]["logit_scale"] <= 100


def test_a_cpu_trains_in_bf16_and_validates_in_fp32(pictures: Path, defaults: Params) -> None:
    """Weights stay fp32; what is told of a model does not depend on what it trained in."""
    pairs = pairs_of(pictures, defaults)
    config = ROOT / "samples" / "base_model" / "scenes-resnet.json"
    found = {}
    for precision in ("fp32", "bf16"):
        clip = model.create("scenes-resnet", config, seed=0)
        fitted, logged = run(
            clip, pairs, pictures, defaults, epochs=8, precision=precision, augment=None
        )
        losses = [values["loss"] for _, values in logged if "loss" in values]
        assert np.mean(losses[-2:]) < np.mean(losses[:2]) - 0.2
        assert {w.dtype for w in clip.model.parameters()} == {torch.float32}
        found[precision] = fitted.history[0], losses
    assert found["bf16"][0] == found["fp32"][0]
    assert found["bf16"][1][0] == pytest.approx(found["fp32"][1][0], rel=0.02)
    assert found["bf16"][1] != found["fp32"][1]
