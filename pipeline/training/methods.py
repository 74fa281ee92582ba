"""The ways of fine-tuning: which weights train, and how the model becomes a plain one again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

from pipeline.clip import adapters
from pipeline.clip.losses import LossName
from pipeline.errors import ConfigError
from pipeline.params import FinetuneParams
from pipeline.training import locking
from pipeline.training.recompute import recomputed


@contextmanager
def prepared(model: nn.Module, params: FinetuneParams, *, seed: int) -> Iterator[None]:
    """The model with only those weights training that `finetune.method` says.

    Afterwards it is plain again: low-rank updates are folded into the weights, and all train that
    did before. Raises ConfigError and ModelError where the method does not fit the model.
    """
    weights = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        if params.method == "lora":
            asked = params.lora
            adapters.add(
                model, rank=asked.rank, alpha=asked.alpha, targets=asked.targets,
                from_depth=asked.from_depth, seed=seed,
            )  # fmt: skip
        if params.method == "lit":
            locking.lock(model, image=params.lock.image, text=params.lock.text)
        if params.method == "head":
            locking.lock_below_heads(model)
        with recomputed(model, params):
            yield
    finally:
        adapters.merge(model)
        for weight, trained in weights:
            weight.requires_grad_(trained)


def loss_of(model: nn.Module, asked: Literal["auto", "info_nce", "sigmoid"]) -> LossName:
    """The loss as asked; auto is the one that the model was made with, which its bias tells.

    Raises ConfigError for the sigmoid loss where the model has no bias.
    """
    biased = getattr(model, "logit_bias", None) is not None
    if asked == "sigmoid" and not biased:
        raise ConfigError(
            "finetune.loss is sigmoid, which needs a logit bias, and this model has none: "
            "set auto or info_nce, or choose a SigLIP model"
        )
    if asked == "auto":
        return "sigmoid" if biased else "info_nce"
    return asked
