"""The base model and its general set, made small."""

from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch
from imports import ROOT, tree_of
from PIL import Image
from ruamel.yaml import YAML

from pipeline.artifacts import read_json, sha256_of
from pipeline.data.images import open_image
from pipeline.data.places import Place
from samples import params as sample_params
from samples.base_model.make import base_pictures, train_base, write_general
from samples.params import BaseModelParams, ScenesParams
from samples.scenes import make as scenes
from samples.scenes.scene import SIDES
from samples.scenes.words import SLICES

STAGES = YAML(typ="safe", pure=True).load((ROOT / "samples" / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def small() -> BaseModelParams:
    """The default, but for its size."""
    params = sample_params.load().base_model
    training = params.training.model_copy(update={"epochs": 1, "batch_size": 16})
    sizes = {"train_images": 96, "val_images": 32, "general_images": 24}
    return params.model_copy(update={**sizes, "training": training})


@pytest.mark.parametrize("stage", ["scenes", "base_model"])
def test_deps_are_the_code_that_a_stage_runs(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert listed == tree_of(f"samples/{stage}/make.py")
    assert STAGES[stage]["cmd"] == f"python -m samples.{stage}.make"
    assert STAGES[stage]["params"] == [{"samples/params.yaml": [stage]}]


def test_general_set_is_clean_and_complete(small: BaseModelParams, tmp_path: Path) -> None:
    write_general(small, tmp_path / "general")
    rows = pd.read_csv(tmp_path / "general" / "captions.csv")
    assert list(rows.columns) == ["image", "caption", "label"]
    assert rows.image.nunique() == 24
    assert not rows.isna().any().any()
    assert not rows.duplicated(["image", "caption"]).any()
    for image in rows.image.unique():
        assert min(open_image(Place(tmp_path / "general" / image)).size) in SIDES
    colours, shapes = zip(*rows.label.str.split(), strict=True)
    assert set(colours) <= set(SLICES["base"].colours)
    assert set(shapes) <= set(SLICES["base"].shapes)


def test_general_set_shares_no_picture_with_the_sample(
    small: BaseModelParams, tmp_path: Path
) -> None:
    write_general(small, tmp_path / "general")
    sizes = ScenesParams(seed=small.seed, images=200, dirty_captions=0, broken_files=0, copies=0)
    scenes.make(sizes, tmp_path / "out", tmp_path / "truth.csv", processes=1)
    general, sample = (
        {sha256_of(file) for file in (tmp_path / name / "images").iterdir()}
        for name in ("general", "out")
    )
    assert (len(general), len(sample)) == (24, 200)
    assert not general & sample


def test_general_set_was_not_trained_on(small: BaseModelParams) -> None:
    """Other lots, hence other scenes: neither to train on nor to choose the epoch by."""
    sides = (small.train_side,)
    trained = base_pictures(small, 0, small.train_images + small.val_images, sides=sides)
    first = small.train_images + small.val_images
    general = base_pictures(small, first, small.general_images, sides=SIDES)
    assert not {p.scene.seed for p in trained} & {p.scene.seed for p in general}


def test_base_model_learns_and_loads_in_plain_open_clip(
    small: BaseModelParams, tmp_path: Path
) -> None:
    train_base(small, tmp_path / "out")
    assert read_json(tmp_path / "out" / "cliptune.json")["best"]["epoch"] == 1
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    picture = preprocess(Image.new("RGB", (90, 70), (200, 30, 30)))
    assert picture.shape == (3, 64, 64)
    with torch.no_grad():
        image, text, scale = model.eval()(picture[None], tokenizer(["red star", "blue ring"]))[:3]
    assert torch.isfinite(scale * image @ text.T).all()

    train_base(small, tmp_path / "again")
    assert sha256_of(tmp_path / "again") == sha256_of(tmp_path / "out")
