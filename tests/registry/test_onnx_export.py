"""What ONNX Runtime makes of exported graphs."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pipeline.artifacts import read_json
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from pipeline.registry import onnx_export, parity
from tests.drawing import ROOT
from tests.registry.models import make

KINDS: dict[str, dict[str, Any]] = {
    "openai-like": {"quick_gelu": True},
    "resnet-like": {"like": "RN50", "vision": {"layers": [1, 1, 1, 1], "width": 8}},
    "sigmoid-like": {
        "custom_text": True,
        "init_logit_bias": -10.0,
        "vision": {"timm_model_name": "test_vit3", "timm_pool": "map", "image_size": 160},
        "text": {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "captioning": {
        "like": "coca_ViT-B-32",
        "vision": {"attn_pooler_heads": 2},
        "multimodal_cfg": {"width": 20, "heads": 2, "layers": 1, "context_length": 16},
    },
}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_logits_are_the_models_whatever_the_batch(kind: str, tmp_path: Path) -> None:
    clip = make(tmp_path, kind, **KINDS[kind])
    onnx_export.export(clip, tmp_path / "out")
    said = read_json(tmp_path / "out" / "model.json")
    texts = ["a red star", "", "Crab-apples!", "two", "a very long one " * 30]
    shown = parity.pictures(clip)
    pixels, tokens = parity.pixels(clip, [*shown, *shown[:2]]), clip.tokenizer(texts)
    ours = parity.answers(clip, pixels, tokens)
    for count in (1, 3, 5):
        image, text = (
            torch.from_numpy(
                onnx_export.run(tmp_path / "out" / said[name]["file"], rows[:count].numpy())
            )
            for name, rows in (("image", pixels), ("text", tokens))
        )
        logits = image @ text.T * said["logit_scale"] + said["logit_bias"]
        assert torch.allclose(image, ours.images[:count], atol=1e-5, rtol=0)
        assert torch.allclose(text, ours.texts[:count], atol=1e-5, rtol=0)
        assert torch.allclose(logits, ours.logits[:count, :count], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    clip = make(folder, "described")
    onnx_export.export(clip, folder / "out")
    return clip, folder / "out"


def test_what_goes_before_and_after_is_said(exported: tuple[Clip, Path]) -> None:
    clip, folder = exported
    said = read_json(folder / "model.json")
    preprocess = said["image"]["preprocess"]
    assert (preprocess["size"], preprocess["resize_mode"]) == ([32, 32], "shortest")
    assert preprocess["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert said["text"]["context_length"] == 16
    assert said["logit_scale"] == pytest.approx(clip.model.logit_scale.exp().item())
    for name, shape in (("image", ["rows", 3, 32, 32]), ("text", ["rows", 16])):
        graph = onnx.load(folder / f"{name}.onnx")
        assert [opset.version for opset in graph.opset_import if not opset.domain] == [18]
        assert said["opset"] == 18
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
        taken, given = session.get_inputs()[0], session.get_outputs()[0]
        assert (taken.name, taken.shape) == (said[name]["input"], shape)
        assert (given.name, given.shape[0]) == (said[name]["output"], "rows")


def test_a_graph_names_no_place_of_this_machine(exported: tuple[Clip, Path]) -> None:
    _, folder = exported
    for file in folder.iterdir():
        content = file.read_bytes()
        for place in (str(folder.parent), str(ROOT), "site-packages", "pipeline/"):
            assert place.encode() not in content, (file.name, place)


@torch.no_grad()
def test_the_weights_of_a_large_tower_lie_beside_it(tmp_path: Path) -> None:
    clip = make(tmp_path, "large")
    onnx_export.export(clip, tmp_path / "out", alone=1000)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    names = ["image.onnx", "image.onnx.data", "model.json", "text.onnx", "text.onnx.data"]
    assert sorted(file.name for file in moved.iterdir()) == names
    pixels = parity.pixels(clip, parity.pictures(clip))
    found = torch.from_numpy(onnx_export.run(moved / "image.onnx", pixels.numpy()))
    assert torch.allclose(found, clip.model.encode_image(pixels, normalize=True), atol=1e-5)


class Fixed(nn.Module):
    """Knows, when it is traced, how many rows it gets."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)[:, :20] * len(pixels) + 1


class Unheard(nn.Module):
    """Uses what ONNX has no word for."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.linalg.svdvals(pixels[:, 0])[:, :20]


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        (Fixed(), r"image\.onnx in ONNX Runtime: its vectors of 1 rows differ"),
        (Unheard(), "can't express the image tower of odd in ONNX"),
    ],
)
def test_what_can_not_be_a_graph_is_not_written(
    tower: nn.Module, message: str, tmp_path: Path
) -> None:
    clip = make(tmp_path, "odd")
    clip.model.visual = tower
    with pytest.raises(ModelError, match=message):
        onnx_export.export(clip, tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []
