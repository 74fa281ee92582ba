"""A pull of embeddings toward the base's: the gradient, what it leaves alone, what it keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_below
from pipeline.evaluation.retrieval import recalls
from pipeline.params import LockParams, Params
from pipeline.training.distil import Pull
from pipeline.training.distributed import ALONE, World
from pipeline.training.known import NOTHING
from pipeline.training.validate import validate
from tests.drawing import COLOURS
from tests.training import ranks
from tests.training.test_finetune import pairs_of
from tests.training.test_known import CPU, gradients, params_of, resnet, table, trained

STRENGTH = 0.7


def unit(seed: int, rows: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 3, generator=generator, dtype=torch.float64), dim=1)


def target(seed: int) -> Any:
    """Items are numbers of rows."""
    return lambda items: unit(seed)[[int(item) for item in items]]


def items(rows: Any) -> list[str]:
    return [str(row) for row in rows]


def test_value_and_gradient_are_those_by_hand() -> None:
    images, texts = unit(0).requires_grad_(), unit(1).requires_grad_()
    rows = items(range(5))
    found = Pull(STRENGTH, target(2), target(3)).share(
        images, texts, image_ids=rows, captions=rows, world=ALONE
    )
    found.backward()
    cosines = (unit(0) * unit(2)).sum(1) + (unit(1) * unit(3)).sum(1)
    assert found.item() == pytest.approx(STRENGTH * (4 - 2 * cosines).mean().item(), abs=1e-14)
    for side, start, end in ((images, 0, 2), (texts, 1, 3)):
        by_hand = STRENGTH * 2 * (unit(start) - unit(end)) / 5
        assert (side.grad - by_hand).abs().max() < 1e-15
        assert by_hand.abs().max() > 1e-2


def test_a_tower_without_a_target_is_left_alone() -> None:
    images, texts = unit(0).requires_grad_(), unit(1).requires_grad_()
    rows = items(range(5))
    pull = Pull(STRENGTH, None, target(3))
    pull.share(images, texts, image_ids=rows, captions=rows, world=ALONE).backward()
    assert images.grad is None or not images.grad.any()
    assert texts.grad.any()


def share_of(world: World) -> ranks.Found:
    """Process 0 has three of five rows, the other two."""
    mine = np.array_split(np.arange(5), world.size)[world.rank]
    images, texts = unit(0)[mine].requires_grad_(), unit(1)[mine].requires_grad_()
    value = Pull(STRENGTH, target(2), target(3)).share(
        images, texts, image_ids=items(mine), captions=items(mine), world=world
    )
    value.backward()
    return {"value": value.item(), "grad": images.grad.tolist()}


def test_several_processes_are_the_one_big_batch(tmp_path: Path) -> None:
    found = ranks.run(share_of, size=2, folder=tmp_path)
    whole = share_of(ALONE)
    assert np.mean([one["value"] for one in found]) == pytest.approx(whole["value"], abs=1e-14)
    grads = np.concatenate([one["grad"] for one in found]) / 2
    assert np.abs(grads - np.array(whole["grad"])).max() < 1e-15


@pytest.mark.parametrize("method", ["full", "head"])
def test_micro_batches_have_the_gradient_of_the_whole_batch(
    pictures: Path, defaults: Params, method: str
) -> None:
    """Of a model that has moved: at the base the pull is nothing."""
    pairs = pairs_of(pictures, defaults)
    params = params_of(defaults, method=method, distil=20.0)
    clip = resnet()
    given = table(clip, pictures, pairs, params)
    with torch.no_grad():
        clip.model.visual.attnpool.c_proj.weight.mul_(torch.linspace(0, 2, 128)[:, None])
        clip.model.text_projection[:, ::2] *= -1
    found = {}
    for name, pulled, cached in (("whole", given, False), ("parts", given, True),
                                 ("alone", given._replace(pull=None), False)):  # fmt: skip
        clip.model.zero_grad()
        loss, grads = gradients(clip, pictures, pairs, params, pulled, cached=cached)
        found[name] = loss, {weight: grad.clone() for weight, grad in grads.items()}
    assert found["parts"][0] == pytest.approx(found["whole"][0], abs=1e-5)
    assert found["whole"][0] > found["alone"][0] + 1
    for name, wanted in found["whole"][1].items():
        largest = max(wanted.abs().max().item(), 1e-3)
        assert (found["parts"][1][name] - wanted).abs().max() < 1e-4 * largest, name
    projection = "text_projection"
    assert not torch.allclose(found["whole"][1][projection], found["alone"][1][projection])


def scores(clip: Clip, source: Path, pairs: pd.DataFrame, params: Any) -> dict[str, float]:
    return validate(
        clip, pairs, Crops(clip, places_below(pairs, source)), params=params, loss="info_nce",
        recalls=recalls, device=CPU,
    )  # fmt: skip


def test_less_is_forgotten(tiny: Clip, pictures: Path, defaults: Params) -> None:
    """A model knows colours by name, and learns on other pictures that each has another name."""
    pairs = pairs_of(pictures, defaults)
    old, new = (pairs.iloc[part].reset_index(drop=True) for part in (slice(8), slice(8, 16)))
    names = list(COLOURS)[:4]
    others = dict(zip(names, [*names[1:], names[0]], strict=True))
    new["caption"] = ["a " + others[name] for name in new["label"]]
    params = params_of(defaults, epochs=40, lr=1e-3)
    trained(tiny, pictures, old, params, NOTHING)
    learnt = {name: weight.clone() for name, weight in tiny.model.state_dict().items()}
    before = scores(tiny, pictures, old, params)["val_loss"]
    assert before < 1
    forgotten = {}
    for strength in (0.0, 3.0):
        tiny.model.load_state_dict(learnt)
        again = params.model_copy(update={"epochs": 10, "distil": strength})
        fitted, _ = trained(tiny, pictures, new, again, table(tiny, pictures, new, again))
        assert fitted.history[0]["val_loss"] > 10
        assert fitted.history[fitted.best]["val_loss"] < 2
        assert ("val_from_base" in fitted.history[-1]) == (strength > 0)
        forgotten[strength] = scores(tiny, pictures, old, params)["val_loss"] - before
    assert forgotten[0.0] > 3
    assert forgotten[3.0] < 0.7 * forgotten[0.0]


@pytest.mark.parametrize("method", ["full", "lora", "head", "lit"])
def test_what_is_pulled_is_what_moves(pictures: Path, defaults: Params, method: str) -> None:
    pairs = pairs_of(pictures, defaults)
    changes = {"lock": LockParams(image="all", text=None), "distil": 1.0, "lr": 1e-3}
    params = params_of(defaults, method=method, **changes)
    if method == "lora":  # its blocks are a transformer's, and this one's image tower has none
        lora = params.lora.model_copy(update={"targets": ["mlp"]})
        params = params.model_copy(update={"lora": lora})
    clip = resnet()
    given = table(clip, pictures, pairs, params)
    assert given.pull is not None
    assert (given.images is None) == (method in ("full", "lora"))
    assert (given.pull.images is None) == (method == "lit")
    assert given.pull.texts is not None
    fitted, _ = trained(clip, pictures, pairs, params, given)
    moved = [row["val_from_base"] for row in fitted.history]
    assert moved[0] <= (0 if method == "head" else 1e-6)
    assert moved[2] > 1e-4
