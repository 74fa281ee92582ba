"""AdamW as CLIP wants it: who decays, how the learning rate moves, where the scale stops."""

import math

import torch
from torch import Tensor, nn

MAX_LOG_SCALE = math.log(100)
"""CLIP's own bound: a larger logit scale makes training unstable (Radford et al. 2021, §2.5)."""


_TIMM = {"pos_embed", "cls_token", "reg_token", "latent"}
"""What timm calls embeddings and learned tokens."""


def decays(name: str, weight: Tensor) -> bool:
    """Whether weight decay applies: to matrices, not to gains, biases, embeddings or the scale."""
    last = name.rsplit(".", 1)[-1]
    embedding = "embedding" in last or name.endswith("token_embedding.weight")
    return weight.ndim > 1 and not embedding and last not in _TIMM


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


class Towards:
    """A pull of each weight toward where it began: L2-SP (Li et al. 2018, arXiv:1802.01483).

    Apart from the gradient, as AdamW's weight decay is (Loshchilov & Hutter 2019,
    arXiv:1711.05101): Adam would scale the pull by the gradient's history.
    """

    def __init__(self, model: nn.Module, *, strength: float) -> None:
        """Remember the weights that train as they are, unless the strength is 0."""
        training = [w for w in model.parameters() if w.requires_grad] if strength else []
        self._pairs = [(w, w.detach().clone()) for w in training]
        self._strength = strength

    @torch.no_grad()
    def pull(self, rate: float) -> None:
        """Move each weight by the share rate × strength of its way back."""
        for weight, start in self._pairs:
            weight.lerp_(start, rate * self._strength)
