"""CLIP as OpenAI made it (arXiv:2103.00020, §2.4): whether a model is one, and its vocabulary.

Other libraries know this one architecture: a vision transformer pooled at its class token and a
causal text transformer pooled at the end of the text, each with a linear projection.
"""

import gzip
from typing import Any

from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, default_bpe
from open_clip.transformer import (
    QuickGELU,
    ResidualAttentionBlock,
    TextTransformer,
    VisionTransformer,
)
from torch import nn

from pipeline.clip.model import Clip, Tokenizer

_GELUS = {"none": "gelu", "tanh": "gelu_pytorch_tanh"}


def misfits(clip: Clip) -> list[str]:
    """What of `clip` is not CLIP as OpenAI made it, in words; empty where all of it is."""
    model: Any = clip.model
    if type(model) not in (CLIP, CustomTextCLIP):
        return [f"it is a {type(model).__name__}, not a pair of towers alone"]
    text = text_tower(model)
    found = [*_image(model.visual), *_text(text, clip.tokenizer), *_words(clip.tokenizer)]
    if model.logit_bias is not None:
        found.append("its logits have a bias (it was made for SigLIP's loss)")
    if model.logit_scale.numel() != 1:
        found.append("its logit scale is not one number")
    return found


def text_tower(model: nn.Module) -> nn.Module:
    """What holds the text tower's parts: `model.text`, or the model itself."""
    return model.text if isinstance(model, CustomTextCLIP) else model


def activation(tower: nn.Module) -> str | None:
    """The activation of a transformer's blocks by its usual name; None where it has none."""
    kinds = {_gelu(block) for block in tower.transformer.resblocks}  # type: ignore[union-attr]
    return kinds.pop() if len(kinds) == 1 else None


def merges() -> list[str]:
    """The merges of CLIP's byte-pair encoding, first learnt first: two symbols, one space."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    return lines[1 : 49152 - 256 - 2 + 1]  # as open_clip.tokenizer.SimpleTokenizer reads it


def symbols() -> list[str]:
    """CLIP's tokens in the order of their ids, without the two that begin and end a text."""
    letters = list(bytes_to_unicode().values())
    joined = ["".join(merge.split()) for merge in merges()]
    return [*letters, *(f"{letter}</w>" for letter in letters), *joined]


def _image(visual: nn.Module) -> list[str]:
    if not isinstance(visual, VisionTransformer):
        return [f"its image tower is a {type(visual).__name__}, not a vision transformer of CLIP's"]
    found = _blocks(visual, "image")
    if visual.attn_pool is not None or visual.pool_type != "tok":
        found.append("its image tower does not pool at the class token")
    if isinstance(visual.ln_pre, nn.Identity):
        found.append("its image tower has no norm before the blocks")
    if len({*visual.image_size}) > 1 or len({*visual.patch_size}) > 1:
        found.append("its pictures or patches are not square")
    if visual.proj is None:
        found.append("its image tower has no projection")
    return found


def _text(text: nn.Module, tokenizer: Tokenizer) -> list[str]:
    if not isinstance(text, TextTransformer | CLIP):
        return [f"its text tower is a {type(text).__name__}, not a transformer of CLIP's"]
    found = _blocks(text, "text")
    custom = isinstance(text, TextTransformer)
    pool, end = (text.pool_type, text.eos_id) if custom else (text.text_pool_type, text.text_eos_id)
    # The end of a text has the largest id of CLIP's vocabulary: argmax finds it.
    if pool != "argmax" and not (pool == "eos" and end == getattr(tokenizer, "eot_token_id", -1)):
        found.append("its text tower does not pool at the end of the text")
    if text.attn_mask is None:
        found.append("its text tower is not causal")
    if getattr(text, "cls_emb", None) is not None:
        found.append("its text tower has a class token")
    if not isinstance(text.text_projection, nn.Parameter):
        found.append("its text projection is not a plain matrix")
    return found


def _blocks(tower: nn.Module, name: str) -> list[str]:
    blocks = list(tower.transformer.resblocks)  # type: ignore[union-attr,arg-type]
    plain = all(
        type(block) is ResidualAttentionBlock
        and isinstance(block.ls_1, nn.Identity)
        and isinstance(block.ls_2, nn.Identity)
        for block in blocks
    )
    if not plain:
        return [f"the blocks of its {name} tower scale or normalise more than CLIP's"]
    return [] if activation(tower) else [f"the {name} tower's activation is not a GELU"]


def _gelu(block: nn.Module) -> str | None:
    gelu = block.mlp.gelu  # type: ignore[union-attr]
    if isinstance(gelu, QuickGELU):
        return "quick_gelu"
    return _GELUS.get(gelu.approximate) if isinstance(gelu, nn.GELU) else None


def _words(tokenizer: Tokenizer) -> list[str]:
    if not isinstance(tokenizer, SimpleTokenizer):
        return [f"its tokenizer is a {type(tokenizer).__name__}, not CLIP's byte-pair encoding"]
    lower = tokenizer.clean_fn.__name__ == "_clean_lower"
    if not lower or tokenizer.reduction_fn is not None or len(tokenizer.all_special_ids) != 2:
        return ["its tokenizer cleans or shortens texts in its own way"]
    return []
