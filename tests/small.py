"""Small models of OpenCLIP's and timm's real classes, untrained, the same in each test."""

from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import Tensor, nn

VISION: dict[str, Any] = {"image_size": 32, "patch_size": 16, "width": 16, "head_width": 8}
TEXT: dict[str, Any] = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2}


def vit(
    *, blocks: int = 2, vision: dict[str, Any] | None = None, custom: bool = False, **text: Any
) -> nn.Module:
    """A vision transformer (or what `vision` says) and a text transformer, of as many blocks."""
    kind = CustomTextCLIP if custom else CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = kind(
            embed_dim=12,
            vision_cfg=CLIPVisionCfg(**{**VISION, "layers": blocks, **(vision or {})}),
            text_cfg=CLIPTextCfg(**{**TEXT, "layers": blocks, **text}),
        )
    return model.eval()


def timm_vit() -> nn.Module:
    """A vision transformer of timm, whose attention pool packs key and value."""
    return vit(vision={"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "linear"})


def inputs(size: int = 4, *, side: int = 32, length: int = 8) -> tuple[Tensor, Tensor]:
    """Pixels B×3×H×W and tokens B×L whose largest is at a place of its own."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(size, 3, side, side, generator=generator)
    tokens = torch.randint(1, 40, (size, length), generator=generator)
    for i in range(size):
        tokens[i, 2 + i % (length - 2)] = 49
    return pixels, tokens
