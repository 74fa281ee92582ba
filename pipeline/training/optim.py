"""AdamW as CLIP wants it: who decays, how the learning rate moves, where the scale stops."""

import math

import torch
from torch import Tensor, nn

from pipeline.params import FinetuneParams

MAX_LOG_SCALE = math.log(100)
"""CLIP's own bound: a larger logit scale makes training unstable (Radford et al. 2021, §2.5)."""


def decays(name: str, weight: Tensor) -> bool:
    """Whether weight decay applies: to matrices, not to gains, biases, embeddings or the scale."""
    embedding = "embedding" in name.rsplit(".", 1)[-1] or name.endswith("token_embedding.weight")
    return weight.ndim > 1 and not embedding


def optimizer(model: nn.Module, params: FinetuneParams) -> torch.optim.AdamW:
    """AdamW over all weights of `model` that train, in two groups: with decay and without."""
    weights = [(name, w) for name, w in model.named_parameters() if w.requires_grad]
    groups = [
        {
            "params": [w for n, w in weights if decays(n, w)],
            "weight_decay": params.weight_decay,
            "lr_scale": 1.0,
        },
        {
            "params": [w for n, w in weights if not decays(n, w)],
            "weight_decay": 0.0,
            "lr_scale": 1.0,
        },
    ]
    beta1, beta2 = params.betas
    return torch.optim.AdamW(groups, lr=params.lr, betas=(beta1, beta2), eps=1e-6)


def learning_rate(step: int, *, steps: int, warmup: float, peak: float) -> float:
    """Linear warm-up over a share of all steps, then half a cosine to 0; `step` counts from 0."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    through = (step - rising) / max(steps - rising, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * through))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> float:
    """Give every group its share `lr_scale` of this learning rate; return the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
    return rate


def train_mode(model: nn.Module, *, freeze_batch_norm: bool) -> None:
    """Training mode; frozen batch norm keeps its statistics, which a small batch would blur.

    A module all of whose weights are frozen stays as at evaluation: a locked tower computes what
    its cached embeddings say, without dropout, and its batch norm keeps its statistics too.
    """
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        frozen = bool(weights) and not any(weight.requires_grad for weight in weights)
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if frozen or (batch_norm and freeze_batch_norm):
            module.eval()


@torch.no_grad()
def clamp_scale(model: nn.Module) -> None:
    """Keep the logarithm of the logit scale in [0, ln 100] (openai/CLIP#46)."""
    model.logit_scale.clamp_(0, MAX_LOG_SCALE)  # type: ignore[operator]
