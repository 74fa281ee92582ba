"""How fast each weight learns: AdamW with a rate for each tower, falling with depth."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.clip.layers import TOWERS, Layer, layers, need_depth
from pipeline.training.auto import Settled
from pipeline.training.optim import decays


def optimizer(model: nn.Module, params: Settled) -> torch.optim.AdamW:
    """AdamW over all weights of `model` that train; ModelError where depth is asked and unknown."""
    asked = groups(
        model, layers(model), weight_decay=params.weight_decay, layer_decay=params.layer_decay,
        image_lr=params.tower_lr.image, text_lr=params.tower_lr.text,
    )  # fmt: skip
    beta1, beta2 = params.betas
    # A GPU takes a step in a few kernels; a CPU spends no time here, and keeps its last digits.
    gpu = all(weight.is_cuda for weight in model.parameters())
    return torch.optim.AdamW(
        asked, lr=params.lr, betas=(beta1, beta2), eps=1e-6, fused=True if gpu else None
    )


def groups(
    model: nn.Module,
    placed: Mapping[str, Layer],
    *,
    weight_decay: float,
    layer_decay: float,
    image_lr: float,
    text_lr: float,
) -> list[dict[str, Any]]:
    """AdamW's groups over all weights that train, each with a share `lr_scale` of the peak rate.

    The share is the tower's own times `layer_decay` for each layer above: a tower's projection
    learns at the tower's rate, its embeddings the slowest (Clark et al. 2020, arXiv:2003.10555, §A;
    Bao et al. 2022, arXiv:2106.08254, §A). Logit scale and bias learn at the peak rate.

    `placed` is `layers` of the model as it now is. Weights of one share and decay make one group;
    groups come fastest first, and with decay before without.

    Raises ModelError when rates should fall with depth in a tower that shows no blocks.
    """
    if layer_decay != 1:
        for tower in TOWERS:
            need_depth(placed, tower, "finetune.layer_decay")
    rate = {"image": image_lr, "text": text_lr, "scale": 1.0}
    found: dict[tuple[float, bool], list[Tensor]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            layer = placed[name]
            share = rate[layer.tower] * layer_decay**layer.above
            found.setdefault((share, decays(name, weight)), []).append(weight)
    return [
        {
            "params": found[share, decay],
            "weight_decay": weight_decay if decay else 0.0,
            "lr_scale": share,
        }
        for share, decay in sorted(found, reverse=True)
    ]
