"""Depths of real architectures, built without weights."""

import importlib.util

import pytest
from torch import nn

from pipeline.clip import model as clip_model
from pipeline.clip.layers import Layer, Tower, blocks, layers, need_depth
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from tests import small

HUGGING = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


@pytest.mark.parametrize(
    ("architecture", "image", "text", "places"),
    [
        (
            "ViT-B-32", 12, 12,
            {
                "visual.conv1.weight": 0, "visual.class_embedding": 0, "visual.ln_pre.bias": 0,
                "visual.positional_embedding": 0, "visual.proj": 13, "visual.ln_post.weight": 13,
                "visual.transformer.resblocks.11.mlp.c_fc.weight": 12,
                "token_embedding.weight": 0, "positional_embedding": 0, "text_projection": 13,
                "ln_final.weight": 13, "transformer.resblocks.0.attn.in_proj_weight": 1,
                "transformer.resblocks.10.ln_1.weight": 11, "logit_scale": 0,
            },
        ),
        (
            "RN50", 4, 12,
            {
                "visual.conv3.weight": 0, "visual.bn1.bias": 0, "visual.layer1.0.bn3.weight": 1,
                "visual.layer4.2.conv1.weight": 4, "visual.attnpool.positional_embedding": 5,
                "visual.attnpool.q_proj.weight": 5,
            },
        ),
        (
            "ViT-B-16-SigLIP", 12, 12,
            {
                "visual.trunk.patch_embed.proj.weight": 0, "visual.trunk.pos_embed": 0,
                "visual.trunk.blocks.0.attn.qkv.weight": 1, "visual.trunk.attn_pool.latent": 13,
                "visual.trunk.norm.weight": 13, "text.token_embedding.weight": 0,
                "text.transformer.resblocks.11.ln_2.bias": 12, "text.text_projection.weight": 13,
                "logit_bias": 0,
            },
        ),
        (
            "convnext_base", 4, 12,
            {
                "visual.trunk.stem.0.weight": 0, "visual.trunk.stages.3.blocks.0.gamma": 4,
                "visual.trunk.head.norm.weight": 5, "visual.head.proj.weight": 5,
            },
        ),
        (
            "MobileCLIP-S1", 4, 12,
            {"visual.trunk.stem.0.conv_scale.bn.bias": 0, "visual.trunk.head.fc.bias": 5},
        ),
        (
            "coca_ViT-B-32", 12, 12,
            {
                "text.cls_emb": 0, "visual.attn_pool.query": 13,
                "text_decoder.resblocks.0.ln_1.weight": 13,
            },
        ),
        pytest.param(
            "roberta-ViT-B-32", 12, 12,
            {
                "text.transformer.embeddings.word_embeddings.weight": 0,
                "text.transformer.encoder.layer.11.attention.self.query.weight": 12,
            },
            marks=[HUGGING, pytest.mark.network],
        ),
    ],
)  # fmt: skip
def test_every_parameter_has_a_place(
    architecture: str, image: int, text: int, places: dict[str, int]
) -> None:
    model = clip_model.outline(architecture)
    placed = layers(model)
    assert list(placed) == [name for name, _ in model.named_parameters()]
    expected: list[tuple[Tower, int]] = [("image", image), ("text", text)]
    for tower, n in expected:
        within = [layer for layer in placed.values() if layer.tower == tower]
        assert {layer.depth for layer in within} == set(range(n + 2))
        assert {layer.of for layer in within} == {n}
        assert blocks(placed, tower) == n
        need_depth(placed, tower, "anything")
    for name, depth in places.items():
        assert placed[name].depth == depth, name
    outside = {name for name, layer in placed.items() if layer.tower == "scale"}
    assert outside == {"logit_scale", "logit_bias"} & set(placed)


def test_a_text_tower_of_its_own_has_the_same_depths() -> None:
    plain, custom = layers(small.vit()), layers(small.vit(custom=True))
    of_text = {name: layer for name, layer in plain.items() if layer.tower == "text"}
    assert len(of_text) > 10
    assert {f"text.{name}": layer for name, layer in of_text.items()} == {
        name: layer for name, layer in custom.items() if layer.tower == "text"
    }


def test_the_way_up_is_counted(tiny: Clip) -> None:
    placed = layers(tiny.model)
    assert [placed[f"visual.{n}.weight"].above for n in ("conv1", "layer4.0.conv1")] == [5, 1]
    assert placed["text_projection"].above == placed["logit_scale"].above == 0


def test_what_a_caller_adds_stands_outside_the_towers() -> None:
    model = small.vit()
    model.add_module("adapter", nn.Linear(2, 2))
    assert layers(model)["adapter.weight"] == Layer("scale", 0, 0)


@pytest.mark.parametrize("custom", [False, True])
def test_a_tower_without_known_blocks_stops_only_who_needs_them(custom: bool) -> None:
    model = small.vit(custom=custom)
    model.visual = nn.ModuleDict({"stem": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    placed = layers(model)
    assert placed["visual.head.weight"] == Layer("image", 0, 0)
    assert blocks(placed, "text") == 2
    need_depth(placed, "text", "finetune.layer_decay")
    message = (
        r"finetune\.layer_decay needs the blocks of the image tower.*visual\.head, visual\.stem"
    )
    with pytest.raises(ModelError, match=message):
        need_depth(placed, "image", "finetune.layer_decay")


class Encoder(nn.Module):
    """Named as transformers names BERT's and RoBERTa's."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(9, 4)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.pooler = nn.Linear(4, 4)


def test_a_hugging_face_text_tower() -> None:
    model = small.vit(custom=True)
    model.text = nn.Module()
    model.text.transformer = Encoder()
    model.text.proj = nn.Linear(4, 4)
    depths = {n: at.depth for n, at in layers(model).items() if at.tower == "text" and "bias" in n}
    assert depths == {
        "text.transformer.encoder.layer.0.bias": 1,
        "text.transformer.encoder.layer.1.bias": 2,
        "text.transformer.encoder.layer.2.bias": 3,
        "text.transformer.pooler.bias": 4,
        "text.proj.bias": 4,
    }
    assert layers(model)["text.transformer.embeddings.weight"].depth == 0
