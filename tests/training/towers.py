"""A small CLIP with patch dropout, attention dropout and a logit bias, in fp64."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.clip import model as clip_model
from pipeline.clip.losses import Codes

ROWS = 8
CONFIG = {
    "embed_dim": 16,
    "init_logit_bias": -3.0,
    "vision_cfg": {
        "image_size": 16, "patch_size": 4, "width": 32, "head_width": 16, "layers": 2,
        "patch_dropout": 0.5,
    },
    "text_cfg": {"context_length": 6, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip
CODES = Codes(
    torch.tensor([0, 0, 1, 2, 3, 4, 5, 6]),
    torch.tensor([0, 1, 2, 3, 4, 5, 5, 6]),
    torch.tensor([7, 8, 7, 9, -1, -1, 9, 7]),
)


def small_vit(folder: Path, *, dropout: bool) -> nn.Module:
    """The same each time but for dropout, in training mode; `folder` takes its configuration."""
    name = "small-vit-dropout" if dropout else "small-vit"
    vision = {**CONFIG["vision_cfg"], "patch_dropout": 0.5 if dropout else 0.0}
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**CONFIG, "vision_cfg": vision}))
    model = clip_model.create(name, file, seed=0).model.double().train()
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.2 if dropout else 0.0
    return model


def inputs() -> tuple[Tensor, Tensor]:
    """ROWS pictures and texts, the same each time."""
    random = torch.Generator().manual_seed(1)
    pixels = torch.randn(ROWS, 3, 16, 16, generator=random, dtype=torch.float64)
    return pixels, torch.randint(1, 50, (ROWS, 6), generator=random)
