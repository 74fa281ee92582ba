"""A model as Hugging Face's transformers reads it: `CLIPModel.from_pretrained(folder)`.

    config.json, model.safetensors     the towers, under transformers' names
    preprocessor_config.json           what CLIPProcessor does to a picture
    vocab.json, merges.txt             CLIP's byte-pair encoding
    tokenizer_config.json, special_tokens_map.json

transformers knows CLIP as OpenAI made it; `pipeline.clip.openai_style` says what that is. The end
of a text is named by its id, 49407: with transformers' older 2 it would be sought as the largest
id. Texts are padded with that same id, and the first one counts, so it does not matter that
OpenCLIP pads with 0. One thing transformers leaves out: OpenCLIP first mends a text with ftfy and
resolves HTML entities, so a curly quote or `&amp;` makes other tokens there.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.artifacts import new_folder, write_json, write_text
from pipeline.clip import openai_style
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from pipeline.registry import parity

START, END = "<|startoftext|>", "<|endoftext|>"

UNIT = 1e-5
"""What vectors of unit length may differ by on the same pixels and tokens, and logits by as much of
their scale."""

PIXELS = 0.02
"""What a picture's mean may differ by, of a range of 1: transformers resizes and cuts with other
code, which may round a side or a margin to the other pixel."""

_RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""As Pillow numbers them; what is not bilinear, OpenCLIP resizes bicubically."""

_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def export(clip: Clip, folder: Path) -> None:
    """Write `clip` into a new `folder` and load it there; only what says the same stays.

    Raises ModelError where the architecture is none that transformers' CLIPModel can hold, naming
    what does not fit, and where vectors, logits, tokens or pixels differ.
    """
    unfit = [*openai_style.misfits(clip), *_unfit_pictures(clip.config["preprocess_cfg"])]
    if unfit:
        raise ModelError(
            f"transformers' CLIPModel can't hold {clip.architecture}: {'; '.join(unfit)}. "
            "`--to onnx` and `--to mlflow` take any architecture"
        )
    with new_folder(folder) as part:
        write_json(part / "config.json", _config(clip))
        named = {name: tensor.detach().cpu().contiguous() for name, tensor in _weights(clip.model)}
        safetensors.torch.save_file(
            {name: named[name].clone() for name in sorted(named)},
            part / "model.safetensors",
            metadata={"format": "pt"},
        )
        _write_processor(part, clip)
        _verify(clip, part)


def _unfit_pictures(preprocess: dict[str, Any]) -> list[str]:
    unfit = []
    if preprocess["resize_mode"] not in ("shortest", "squash"):
        unfit.append(f"its pictures are resized by {preprocess['resize_mode']!r}")
    if preprocess["mode"] != "RGB":
        unfit.append(f"its pictures are {preprocess['mode']}")
    return unfit


def _config(clip: Clip) -> dict[str, Any]:
    model, visual = clip.model, clip.model.visual
    text = openai_style.text_tower(model)
    width = visual.proj.shape[1]  # type: ignore[union-attr,index]
    start = len(openai_style.symbols())
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": width,
        "logit_scale_init_value": model.logit_scale.item(),  # type: ignore[operator]
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": text.token_embedding.num_embeddings,  # type: ignore[union-attr]
            "max_position_embeddings": len(text.positional_embedding),  # type: ignore[arg-type]
            "bos_token_id": start,
            "eos_token_id": start + 1,
            "pad_token_id": start + 1,
            "projection_dim": width,
            **_tower(text, norm=text.ln_final),
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": visual.image_size[0],  # type: ignore[union-attr,index]
            "patch_size": visual.patch_size[0],  # type: ignore[union-attr,index]
            "num_channels": 3,
            "projection_dim": width,
            **_tower(visual, norm=visual.ln_post),  # type: ignore[arg-type,union-attr]
        },
    }


def _tower(tower: nn.Module, *, norm: Any) -> dict[str, Any]:
    blocks: Any = tower.transformer.resblocks  # type: ignore[union-attr]
    return {
        "hidden_size": norm.normalized_shape[0],
        "intermediate_size": blocks[0].mlp.c_fc.out_features,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": blocks[0].attn.num_heads,
        "hidden_act": openai_style.activation(tower),
        "layer_norm_eps": norm.eps,
        "attention_dropout": 0.0,
    }


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The model's tensors under transformers' names."""
    visual: Any = model.visual
    text: Any = openai_style.text_tower(model)
    yield "logit_scale", model.logit_scale.detach().reshape(())  # type: ignore[operator]
    yield "visual_projection.weight", visual.proj.T
    yield "text_projection.weight", text.text_projection.T
    yield "vision_model.embeddings.class_embedding", visual.class_embedding
    yield "vision_model.embeddings.patch_embedding.weight", visual.conv1.weight
    yield "vision_model.embeddings.position_embedding.weight", visual.positional_embedding
    yield "text_model.embeddings.token_embedding.weight", text.token_embedding.weight
    yield "text_model.embeddings.position_embedding.weight", text.positional_embedding
    norms = {
        "vision_model.pre_layrnorm": visual.ln_pre,  # transformers' own spelling
        "vision_model.post_layernorm": visual.ln_post,
        "text_model.final_layer_norm": text.ln_final,
    }
    for name, norm in norms.items():
        yield from _affine(name, norm)
    for prefix, tower in {"vision_model": visual, "text_model": text}.items():
        for number, block in enumerate(tower.transformer.resblocks):
            yield from _block(f"{prefix}.encoder.layers.{number}", block)


def _block(prefix: str, block: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for ours, theirs in _PARTS.items():
        yield from _affine(f"{prefix}.{theirs}", block.get_submodule(ours))
    attention: Any = block.attn
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    for name, weight, bias in zip("qkv", weights, biases, strict=True):
        yield f"{prefix}.self_attn.{name}_proj.weight", weight
        yield f"{prefix}.self_attn.{name}_proj.bias", bias


def _affine(name: str, module: Any) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", module.weight
    yield f"{name}.bias", module.bias


def _write_processor(folder: Path, clip: Clip) -> None:
    symbols = openai_style.symbols()
    vocabulary = {symbol: number for number, symbol in enumerate([*symbols, START, END])}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *openai_style.merges(), ""]))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(folder / "special_tokens_map.json", special)
    length = clip.tokenizer.context_length  # type: ignore[attr-defined]
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **special},
    )
    write_json(folder / "preprocessor_config.json", _pictures(clip.config["preprocess_cfg"]))


def _pictures(preprocess: dict[str, Any]) -> dict[str, Any]:
    """OpenCLIP's way with pictures in the words of transformers' CLIPImageProcessor."""
    size = preprocess["size"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    whole, squash = {"height": height, "width": width}, preprocess["resize_mode"] == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": whole if squash else {"shortest_edge": height},
        "resample": _RESAMPLE.get(preprocess["interpolation"], _RESAMPLE["bicubic"]),
        "do_center_crop": not squash,
        "crop_size": whole,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess["mean"]),
        "image_std": list(preprocess["std"]),
    }


@torch.no_grad()
def _verify(clip: Clip, folder: Path) -> None:
    """Raise ModelError where what transformers loads from `folder` says something else."""
    with _quiet():
        from transformers import CLIPModel, CLIPProcessor  # noqa: PLC0415 - an extra; seconds

        theirs = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        shown = parity.pictures(clip)
        pixels_I, tokens_TL = parity.pixels(clip, shown), clip.tokenizer([*parity.TEXTS])
        ours = parity.answers(clip, pixels_I, tokens_TL)
        said = theirs(input_ids=tokens_TL, pixel_values=pixels_I)
        words = processor(
            text=[*parity.TEXTS], padding="max_length", truncation=True, return_tensors="pt"
        )
        again = theirs.get_text_features(**words)
        seen = processor(images=shown, return_tensors="pt")["pixel_values"]
    text_TD = nn.functional.normalize(getattr(again, "pooler_output", again), dim=-1)
    std = clip.std.view(3, 1, 1)
    scale = clip.model.logit_scale.exp().item()  # type: ignore[operator]
    parity.hold(
        {
            "image vectors": (ours.images, said.image_embeds, UNIT),
            "text vectors": (ours.texts, said.text_embeds, UNIT),
            "logits": (ours.logits, said.logits_per_image, UNIT * scale),
            "vectors of texts that its own tokenizer read": (ours.texts, text_TD, UNIT),
            "mean pixels": (_means(pixels_I * std), _means(seen * std), PIXELS),
        },
        what=f"{clip.architecture} in transformers",
    )


def _means(pixels_I: Tensor) -> Tensor:
    """Mean of each picture's quarters and channels: what a shift by a pixel hardly moves."""
    return nn.functional.adaptive_avg_pool2d(pixels_I, 2)


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers shows bars and warns of what is checked here."""
    from transformers.utils import logging  # noqa: PLC0415

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
