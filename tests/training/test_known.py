"""Looking a frozen tower up is computing it: the same loss, gradients, validation and bundle."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.clip import cache as caches
from pipeline.clip import device as devices
from pipeline.clip import fill, heads, store
from pipeline.clip import model as clip_model
from pipeline.clip.embed_pairs import embed_pairs
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.clip.towers import Towers
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table
from pipeline.data.places import places_below
from pipeline.errors import ConfigError, ModelError
from pipeline.evaluation.retrieval import recalls
from pipeline.params import FinetuneParams, LockParams, Params
from pipeline.registry import bundle
from pipeline.training import gradcache, methods, optim
from pipeline.training.distributed import ALONE
from pipeline.training.finetune import Fit, fit
from pipeline.training.known import NOTHING, Known, known
from pipeline.training.learner import Learner, coded
from pipeline.training.resting import resting
from tests.drawing import ROOT
from tests.small import timm_vit, vit
from tests.training.test_finetune import pairs_of

CPU = torch.device("cpu")
VIT = {
    "embed_dim": 16, "init_logit_bias": -3.0,
    "vision_cfg": {
        "image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2,
        "patch_dropout": 0.5,
    },
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
        "proj_bias": True,
    },
}  # fmt: skip
LOCKS = {
    "image": {"method": "lit", "lock": LockParams(image="all", text=None)},
    "text": {"method": "lit", "lock": LockParams(image=0, text="all")},
    "head": {"method": "head"},
}


def resnet() -> Clip:
    config = ROOT / "samples" / "base_model" / "scenes-resnet.json"
    return clip_model.create("scenes-resnet", config, seed=0)


@pytest.fixture(params=["resnet", "vit"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Clip]:
    """Makes the same model each time: OpenCLIP's ResNet, or its ViT with patch dropout."""
    if request.param == "resnet":
        return resnet
    file = tmp_path / "vit-known.json"
    file.write_text(json.dumps(VIT))
    return lambda: clip_model.create("vit-known", file, seed=0)


def params_of(defaults: Params, **changes: Any) -> FinetuneParams:
    plain = {"epochs": 2, "batch_size": 8, "warmup": 0.0, "lr": 1e-2, "augment": None}
    settings = {**plain, **changes}
    return defaults.finetune.model_copy(update={"distil": 0.0, **settings})


def table(clip: Clip, source: Path, pairs: pd.DataFrame, params: FinetuneParams) -> Known:
    return known(
        clip, pairs, places_below(pairs, source), params, seed=0,
        device=devices.prepare(cpu_threads=2), cpu_threads=2, cache=source / "cache",
    )  # fmt: skip


def gradients(
    clip: Clip,
    source: Path,
    pairs: pd.DataFrame,
    params: FinetuneParams,
    given: Known,
    *,
    cached: bool = False,
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a step over all pairs."""
    with methods.prepared(clip.model, params, seed=0):
        optim.train_mode(clip.model, freeze_batch_norm=True)
        if params.method == "head":  # the towers of the comparison rest, as the features' did
            clip.model.eval()
        learner = Learner(
            clip, coded(pairs), Crops(clip, places_below(pairs, source)), augment=params.augment,
            seed=0, precision="fp32",
            loss=methods.loss_of(clip.model, "auto"), same_label="negative", device=CPU,
            world=ALONE, known=given,
        )  # fmt: skip
        rows = np.arange(len(pairs))
        torch.manual_seed(0)

        def cost(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
            return learner.cost(images, texts, rows)

        if cached:
            parts = np.array_split(rows, 3)
            loss = gradcache.backward(
                cost, embed_images=learner.images, images=parts, embed_texts=learner.texts,
                texts=parts, model=clip.model, device=CPU,
            )  # fmt: skip
        else:
            loss = cost(learner.images(rows), learner.texts(rows))
            loss.backward()
    named = clip.model.named_parameters()
    return loss.item(), {name: weight.grad for name, weight in named if weight.grad is not None}


@pytest.mark.parametrize("cached", [False, True], ids=["whole", "micro-batches"])
@pytest.mark.parametrize("lock", LOCKS)
def test_loss_and_gradients_are_those_of_the_forward_pass(
    made: Callable[[], Clip], pictures: Path, defaults: Params, lock: str, cached: bool
) -> None:
    pairs = pairs_of(pictures, defaults)
    params = params_of(defaults, **LOCKS[lock])
    clip = made()
    given = table(clip, pictures, pairs, params)
    loss, found = gradients(clip, pictures, pairs, params, given, cached=cached)
    whole, wanted = gradients(made(), pictures, pairs, params, NOTHING, cached=cached)
    assert loss == pytest.approx(whole, abs=1e-6)
    assert found.keys() == wanted.keys()
    assert len(found) > 2
    largest = max(gradient.norm().item() for gradient in wanted.values())
    assert largest > 1e-2
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() < 1e-6 * max(largest, 1), name
    if lock == "head":
        assert {name for name in found if name not in ("logit_scale", "logit_bias")} == (
            heads.weights_of(clip.model)
        )


def trained(
    clip: Clip, source: Path, pairs: pd.DataFrame, params: FinetuneParams, given: Known
) -> tuple[Fit, list[float]]:
    losses: list[float] = []
    fitted = fit(
        clip, pairs, pairs, crops=Crops(clip, places_below(pairs, source)), params=params, seed=0,
        recalls=recalls, log=lambda values, _: losses.extend(_loss(values)),
        device=devices.prepare(cpu_threads=2), known=given,
    )  # fmt: skip
    return fitted, losses


def _loss(values: Mapping[str, float]) -> list[float]:
    return [values["loss"]] if "loss" in values else []


@pytest.mark.parametrize("lock", LOCKS)
def test_epochs_are_those_of_the_forward_pass(pictures: Path, defaults: Params, lock: str) -> None:
    """Of pictures as they are: where they are looked up, `augment` varies none."""
    pairs, params = pairs_of(pictures, defaults), params_of(defaults, **LOCKS[lock], lr=1e-3)
    looked_up = "image" in resting(params)
    varied = params.model_copy(update={"augment": defaults.finetune.augment if looked_up else None})
    clip = resnet()
    ours, losses = trained(clip, pictures, pairs, varied, table(clip, pictures, pairs, varied))
    whole, wanted = trained(resnet(), pictures, pairs, params, NOTHING)
    assert losses == pytest.approx(wanted, abs=1e-4)
    assert len(losses) == 4
    for row, other in zip(ours.history, whole.history, strict=True):
        assert row["val_loss"] == pytest.approx(other["val_loss"], abs=1e-4)
    assert ours.best > 0
    assert ours.history[0]["val_loss"] - ours.history[2]["val_loss"] > 1e-3


def test_no_tower_runs_and_no_picture_is_asked_for_after_the_table(
    tiny: Clip, pictures: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment = defaults.finetune.augment
    assert augment is not None
    pairs = pairs_of(pictures, defaults)
    params = params_of(defaults, method="head", lr=1e-3, augment=augment)
    given = table(tiny, pictures, pairs, params)
    for name in ("encode_image", "encode_text"):
        monkeypatch.setattr(tiny.model, name, None)
    for name in ("expect", "batch"):
        monkeypatch.setattr(Crops, name, None)
    fitted, _ = trained(tiny, pictures, pairs, params, given)
    assert fitted.best > 0


def test_a_head_ends_in_a_bundle_that_gives_what_it_said(
    made: Callable[[], Clip], pictures: Path, defaults: Params, tmp_path: Path
) -> None:
    clip = made()
    pairs, params = pairs_of(pictures, defaults), params_of(defaults, method="head", epochs=3)
    before = {name: weight.clone() for name, weight in clip.model.state_dict().items()}
    given = table(clip, pictures, pairs, params)
    fitted, _ = trained(clip, pictures, pairs, params, given)
    assert fitted.best > 0
    bundle.save(tmp_path / "bundle", clip, record={})
    name = f"local-dir:{tmp_path / 'bundle'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    files = [pictures / image for image in pairs["image"]]
    pixels = torch.stack([preprocess(Image.open(file).convert("RGB")) for file in files])
    tokens = open_clip.get_tokenizer(name)(pairs["caption"].tolist())
    with torch.no_grad():
        images = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(tokens, normalize=True).numpy()
    assert given.images is not None
    assert given.texts is not None
    assert np.abs(given.images.all(pairs["image_id"].tolist()) - images).max() < 1e-6
    assert np.abs(given.texts.all(pairs["caption"].tolist()) - texts).max() < 1e-6
    moved = {n for n, weight in model.state_dict().items() if not torch.equal(weight, before[n])}
    assert moved - {"logit_scale", "logit_bias"} == heads.weights_of(clip.model)


def test_features_are_kept_by_content(
    tiny: Clip, pictures: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, params = pairs_of(pictures, defaults), params_of(defaults, method="head")
    first = table(tiny, pictures, pairs, params)
    monkeypatch.setattr(fill, "_compute", lambda cache, batches, *_: [*map(_none, batches)])
    again = table(tiny, pictures, pairs, params)
    ids = pairs["image_id"].tolist()
    assert first.images is not None
    assert again.images is not None
    assert np.array_equal(first.images.all(ids), again.images.all(ids))
    with pytest.raises(AssertionError, match="computed"):
        table(tiny, pictures, pairs, params_of(defaults, **LOCKS["image"]))


def _none(batch: object) -> None:
    raise AssertionError("computed again")


def test_what_the_embed_stage_computed_exactly_is_taken_from_its_cache(
    tmp_path: Path, pictures: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.save(tmp_path / "base", resnet(), record={})
    base = defaults.model.model_copy(update={"pretrained": str(tmp_path / "base")})
    embed = defaults.embed.model_copy(update={"exact": True, "precision": "fp32", "dtype": "fp32"})
    pairs = pairs_of(pictures, defaults)
    blank = {name: [None] * len(pairs) for name in PAIR.names}
    columns = {"pair": range(1, len(pairs) + 1), "file": pairs["image"], "packed": False}
    rows = pd.DataFrame({**blank, **pairs, **columns, "split": "train", "width": 48, "height": 40})
    (tmp_path / "clean").mkdir()
    write_table(rows, PAIR, tmp_path / "clean" / PAIRS_FILE)
    embed_pairs(
        tmp_path / "clean", pictures, tmp_path / "out", tmp_path / "selected", embed,
        packed=tmp_path, base=base, cpu_threads=2, cache=pictures / "cache",
        accepted=tmp_path / "accepted.json", projection_file=tmp_path / "projection.csv",
    )  # fmt: skip
    clip = clip_model.load(tmp_path / "base", architecture=base.name)
    monkeypatch.setattr(fill, "_compute", lambda cache, batches, *_: [*map(_none, batches)])
    given = table(clip, pictures, pairs, params_of(defaults, **LOCKS["image"]))
    ids = pairs["image_id"].tolist()
    assert given.images is not None
    assert given.texts is None
    stored = store.read(tmp_path / "out", "images").take(ids)
    assert np.array_equal(given.images.all(ids), stored)
    assert len(caches.as_ids(ids)) == 16


@pytest.mark.parametrize("custom", [False, True])
def test_a_model_without_heads_gives_what_the_heads_read(custom: bool) -> None:
    model = vit(custom=custom)
    cut = heads.without(model)
    pixels, tokens = torch.rand(4, 3, 32, 32), torch.randint(1, 50, (4, 8))
    with torch.no_grad():
        for tower, inputs in (("image", pixels), ("text", tokens)):
            features = getattr(cut, f"encode_{tower}")(inputs)
            assert features.shape == (4, 16)
            head = heads.head_of(model, tower)
            whole = getattr(model, f"encode_{tower}")(inputs)
            assert torch.equal(head.project(features), whole)
    assert model.visual.proj is not None
    names = {"visual.proj", "text.text_projection" if custom else "text_projection"}
    assert heads.weights_of(model) == names


def test_a_head_of_timm_is_one_too() -> None:
    model = timm_vit()
    pixels = torch.rand(2, 3, 160, 160)
    head = heads.head_of(model, "image")
    assert head.name == "visual.head.proj"
    with torch.no_grad():
        features = heads.without(model).encode_image(pixels)
        assert torch.equal(head.project(features), model.encode_image(pixels))


def test_a_tower_without_a_head_is_refused_before_anything_is_computed(
    tiny: Clip, pictures: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_of(pictures, defaults)
    monkeypatch.setattr(Towers, "images", None)
    params = params_of(defaults, method="lit", lock=LockParams(image="all", text="all"))
    with pytest.raises(ConfigError, match="nothing would train"):
        table(tiny, pictures, pairs, params)
    tiny.model.text_projection = None
    with pytest.raises(ModelError, match=r"the text tower of this model has none.*lora"):
        table(tiny, pictures, pairs, params_of(defaults, method="head"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_towers_that_train_have_no_table(
    tiny: Clip, pictures: Path, defaults: Params, method: str
) -> None:
    pairs = pairs_of(pictures, defaults)
    assert table(tiny, pictures, pairs, params_of(defaults, method=method)) == NOTHING
    partly = params_of(defaults, method="lit", lock=LockParams(image=3, text=None))
    assert table(tiny, pictures, pairs, partly) == NOTHING
