"""Towers that don't train, or only above a block (LiT: Zhai et al. 2022, arXiv:2111.07991)."""

from collections.abc import Mapping
from typing import Literal

from torch import nn

from pipeline.clip.heads import weights_of
from pipeline.clip.layers import SCALES, Layer, Tower, blocks, layers, need_depth
from pipeline.errors import ConfigError

Extent = Literal["all"] | int | None
"""Of a tower: "all"; the embeddings and blocks 1…N (0: the embeddings alone); None: nothing."""


def lock(model: nn.Module, *, image: Extent, text: Extent) -> None:
    """Freeze a tower's weights up to an extent, low-rank updates among them.

    A locked weight keeps every bit. Locked batch norm keeps its statistics, and locked dropout
    rests, under `optim.train_mode`; a part below which nothing trains builds no graph.

    Raises ConfigError when a tower has fewer blocks than should be locked, and when nothing would
    train but the logit scale; ModelError when a tower's blocks can't be told.
    """
    placed = layers(model)
    extents: Mapping[Tower, Extent] = {"image": image, "text": text}
    deepest = {tower: _deepest(placed, tower, extent) for tower, extent in extents.items()}
    locked = {name for name, at in placed.items() if at.depth <= deepest.get(at.tower, -1)}
    remaining = [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and name not in locked and name not in SCALES
    ]
    if not remaining:
        raise ConfigError(
            f"lock.image is {_shown(image)} and lock.text is {_shown(text)}, so that nothing "
            "would train but the logit scale: unlock one tower, or lock it up to a block"
        )
    for name, weight in model.named_parameters():
        if name in locked:
            weight.requires_grad_(False)


def lock_below_heads(model: nn.Module) -> None:
    """Freeze all but the towers' heads, logit scale and bias; ModelError where one has no head."""
    kept = weights_of(model) | set(SCALES)
    for name, weight in model.named_parameters():
        if name not in kept:
            weight.requires_grad_(False)


def _deepest(placed: Mapping[str, Layer], tower: Tower, extent: Extent) -> int:
    """The depth up to which a tower is locked; −1 for none."""
    n = blocks(placed, tower)
    if extent is None:
        return -1
    if extent == "all":
        return n + 1
    need_depth(placed, tower, f"lock.{tower}: {extent}")
    if not 0 <= extent <= n:
        raise ConfigError(
            f"lock.{tower} is {extent}, and the {tower} tower has {n} blocks: "
            f"set 0 (embeddings alone) to {n}, all, or null"
        )
    return extent


def _shown(extent: Extent) -> str:
    return "null" if extent is None else str(extent)
