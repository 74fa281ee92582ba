"""What transformers itself makes of an exported folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import cosine_similarity
from transformers import CLIPModel, CLIPProcessor, CLIPTokenizer

from pipeline.artifacts import read_json, sha256_of, write_json
from pipeline.clip import openai_style
from pipeline.clip.model import CONFIG_FILE, Clip, load_folder
from pipeline.errors import ModelError
from pipeline.registry import bundle, parity, transformers_layout
from tests.drawing import ROOT
from tests.registry.models import make

TEXTS = ["a red star", "", "Crab-apples, 25 of them: it's 3 o'clock!", "naïve Åsa " * 40]

KINDS: dict[str, dict[str, Any]] = {
    "openai-like": {"quick_gelu": True},
    "laion-like": {"custom_text": True, "text": {"mlp_ratio": 2.0}},
    "tanh-like": {
        "vision": {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}},
        "text": {"pool_type": "eos", "eos_id": 49407},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def jpegs(clip: Clip, folder: Path) -> list[Image.Image]:
    """The pictures after a journey through JPEG files."""
    for number, picture in enumerate(parity.pictures(clip)):
        picture.save(folder / f"{number}.jpg", quality=90)
    return [Image.open(file) for file in sorted(folder.glob("*.jpg"))]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_logits_are_the_models(kind: str, folder: Path, tmp_path: Path) -> None:
    clip = make(tmp_path, kind, **KINDS[kind])
    transformers_layout.export(clip, folder)
    theirs = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPProcessor.from_pretrained(folder)
    pictures = jpegs(clip, tmp_path)
    pixels, tokens = parity.pixels(clip, pictures), clip.tokenizer(TEXTS)
    ours = parity.answers(clip, pixels, tokens)

    same = theirs(pixel_values=pixels, input_ids=tokens)
    assert torch.allclose(same.image_embeds, ours.images, atol=1e-5, rtol=0)
    assert torch.allclose(same.text_embeds, ours.texts, atol=1e-5, rtol=0)
    assert torch.allclose(same.logits_per_image, ours.logits, atol=1e-4, rtol=0)

    inputs = processor(
        text=TEXTS, images=pictures, padding=True, truncation=True, return_tensors="pt"
    )
    own = theirs(**inputs)
    assert torch.allclose(own.text_embeds, ours.texts, atol=1e-5, rtol=0)
    assert cosine_similarity(own.image_embeds, ours.images).min() > 0.995  # its own resizing
    assert (inputs["pixel_values"] - pixels).abs().mean() < 0.05  # of a standard deviation


@torch.no_grad()
def test_a_squashed_picture_is_squashed_there_too(folder: Path, tmp_path: Path) -> None:
    bundle.save(tmp_path / "bundle", make(tmp_path, "squashed"), record={})
    config = read_json(tmp_path / "bundle" / CONFIG_FILE)
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    config["preprocess_cfg"] |= {"resize_mode": "squash", "interpolation": "bilinear", **half}
    write_json(tmp_path / "bundle" / CONFIG_FILE, config)
    clip = load_folder(tmp_path / "bundle")
    transformers_layout.export(clip, folder)
    pictures = parity.pictures(clip)
    seen = CLIPProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
    assert (seen["pixel_values"] - parity.pixels(clip, pictures)).abs().max() < 0.02


@torch.no_grad()
def test_the_end_of_a_text_is_found_whatever_fills_the_rest(folder: Path, tmp_path: Path) -> None:
    """OpenCLIP pads with 0, transformers with the end's own id, or not at all."""
    clip = make(tmp_path, "padded")
    transformers_layout.export(clip, folder)
    assert read_json(folder / "config.json")["text_config"]["eos_token_id"] == 49407
    theirs = CLIPModel.from_pretrained(folder).eval()
    tokens = clip.tokenizer(["a red star"])  # start, three words, end, eleven times 0
    filled = torch.where(tokens == 0, 49407, tokens)
    vectors = [
        theirs(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=ids).text_embeds
        for ids in (tokens, filled, tokens[:, :5])
    ]
    assert tokens[0, 4] == 49407
    assert torch.allclose(vectors[0], vectors[1], atol=1e-6)
    assert torch.allclose(vectors[0], vectors[2], atol=1e-6)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, CLIPTokenizer]:
    folder = tmp_path_factory.mktemp("words")
    clip = make(folder, "worded")
    transformers_layout.export(clip, folder / "out")
    return clip, CLIPTokenizer.from_pretrained(folder / "out")


@settings(max_examples=150)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&<")))
def test_a_plain_text_has_the_same_tokens(
    tokenizers: tuple[Clip, CLIPTokenizer], text: str
) -> None:
    clip, theirs = tokenizers
    padded = clip.tokenizer([text])[0].tolist()
    assert theirs(text, truncation=True)["input_ids"] == padded[: padded.index(49407) + 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"like": "RN50", "vision": {"layers": [1, 1, 1, 1]}}, "image tower is a ModifiedResNet"),
        ({"vision": {"timm_model_name": "test_vit3"}}, "image tower is a TimmModel"),
        ({"vision": {"pool_type": "avg"}}, "image tower does not pool at the class token"),
        ({"vision": {"no_ln_pre": True}}, "has no norm before the blocks"),
        ({"vision": {"ls_init_value": 0.1}}, "blocks of its image tower scale or normalise more"),
        ({"vision": {"image_size": [32, 48]}}, "not square"),
        ({"text": {"qk_norm": True}, "custom_text": True}, "blocks of its text tower"),
        ({"text": {"pool_type": "last"}, "custom_text": True}, "text tower does not pool at the"),
        ({"text": {"no_causal_mask": True}, "custom_text": True}, "text tower is not causal"),
        ({"text": {"embed_cls": True}, "custom_text": True}, "text tower has a class token"),
        ({"text": {"proj_bias": True}, "custom_text": True}, "projection is not a plain matrix"),
        ({"init_logit_bias": -10.0}, "logits have a bias"),
        (
            {"text": {"tokenizer_kwargs": {"clean": "canonicalize"}}},
            "tokenizer cleans or shortens texts in its own way",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    clip = make(tmp_path, "unfit", **changes)
    with pytest.raises(ModelError, match=message):
        transformers_layout.export(clip, folder)
    assert not folder.exists()


def test_pictures_that_are_padded_do_not_fit(folder: Path, tmp_path: Path) -> None:
    clip = make(tmp_path, "padding")
    preprocess = clip.config["preprocess_cfg"] | {"resize_mode": "longest"}
    clip = replace(clip, config=clip.config | {"preprocess_cfg": preprocess})
    with pytest.raises(ModelError, match="resized by 'longest'"):
        transformers_layout.export(clip, folder)


def blind(clip: Clip) -> None:
    clip.model.attn_mask.zero_()  # type: ignore[operator,union-attr]


def shifted(clip: Clip) -> None:
    clip.mean.add_(0.5)


@pytest.mark.parametrize(("break_", "what"), [(blind, "text vectors"), (shifted, "mean pixels")])
def test_a_folder_that_says_something_else_is_not_written(
    break_: Callable[[Clip], None], what: str, folder: Path, tmp_path: Path
) -> None:
    clip = make(tmp_path, "broken")
    break_(clip)
    with pytest.raises(ModelError, match=f"its {what} differ from the model's by up to"):
        transformers_layout.export(clip, folder)
    assert list(tmp_path.glob("*out*")) == []


def test_the_same_model_gives_the_same_bytes_and_no_path(tmp_path: Path) -> None:
    clip = make(tmp_path, "twice")
    for name in ("a", "b"):
        transformers_layout.export(clip, tmp_path / name)
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        content = file.read_bytes()
        assert str(tmp_path).encode() not in content
        assert str(ROOT).encode() not in content


def test_the_vocabulary_is_that_of_open_clips_tokenizer(tiny: Clip) -> None:
    symbols = openai_style.symbols()
    assert len(symbols) == tiny.tokenizer.sot_token_id == 49406  # type: ignore[attr-defined]
    encoder = tiny.tokenizer.encoder  # type: ignore[attr-defined]
    assert all(encoder[symbol] == number for number, symbol in enumerate(symbols))
