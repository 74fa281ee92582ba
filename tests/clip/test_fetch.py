"""Fetching a tag with OpenCLIP's own code, from a hub cache on disk: no network is asked."""

import os
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch

from pipeline.artifacts import read_json
from pipeline.errors import ModelError
from pipeline.params import ModelParams
from pipeline.registry.fetched import fetched
from tests.drawing import ROOT

SNAPSHOT = "0" * 40


def test_a_tag_becomes_a_folder_that_keeps_its_activation(tmp_path: Path) -> None:
    """OpenAI's weights want QuickGELU, which `ViT-B-32` by itself does not have."""
    torch.manual_seed(0)
    weights = open_clip.create_model("ViT-B-32").state_dict()
    repository = tmp_path / "hf/hub/models--timm--vit_base_patch32_clip_224.openai"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(SNAPSHOT)
    (repository / "snapshots" / SNAPSHOT).mkdir(parents=True)
    file = repository / "snapshots" / SNAPSHOT / "open_clip_model.safetensors"
    safetensors.torch.save_file(weights, file)

    params = (ROOT / "params.yaml").read_text()
    params = params.replace("name: scenes-resnet", "name: ViT-B-32")
    params = params.replace("pretrained: ../samples/base_model/out", "pretrained: openai")
    (tmp_path / "params.yaml").write_text(params)
    local = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.fetch"]
    subprocess.run(command, cwd=tmp_path, env=os.environ | local, check=True)

    folder = tmp_path / "hub" / "openai"
    assert read_json(folder / "open_clip_config.json")["model_cfg"]["quick_gelu"] is True
    assert read_json(folder / "cliptune.json")["architecture"] == "ViT-B-32"
    fetched = open_clip.create_model(f"local-dir:{folder}")
    assert type(fetched.transformer.resblocks[0].mlp[1]).__name__ == "QuickGELU"
    assert all(torch.equal(value, weights[name]) for name, value in fetched.state_dict().items())


def test_a_model_of_one_s_own_is_not_fetched_and_hub_says_so(tmp_path: Path) -> None:
    base = ModelParams(name="ViT-B-32", pretrained="../models/mine")
    for _ in range(2):
        fetched(base, tmp_path / "hub")
    (note,) = (tmp_path / "hub").iterdir()
    assert note.read_text() == (
        "model.pretrained is ../models/mine, a path from here: nothing was fetched.\n"
    )
    with pytest.raises(ModelError, match="'mine', which is no pretrained tag of ViT-B-32"):
        fetched(ModelParams(name="ViT-B-32", pretrained="mine"), tmp_path / "hub")
