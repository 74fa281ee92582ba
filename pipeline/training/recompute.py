"""Activations computed anew for the backward pass rather than kept: less memory, more time.

Chen et al. 2016, arXiv:1604.06174. A block keeps its input alone, so what a step holds falls to
some fifth, for a third more time. Gradients are the same; what a block draws (dropout) it draws
again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from pipeline.clip.layers import TOWERS
from pipeline.errors import ConfigError, ModelError
from pipeline.params import FinetuneParams
from pipeline.training.resting import resting

_FLAGS = ("grad_checkpointing", "gradient_checkpointing")
"""What OpenCLIP and timm, and Hugging Face, call it in the modules that obey."""

_KEY = "finetune.checkpoint_activations"


@contextmanager
def recomputed(model: nn.Module, params: FinetuneParams) -> Iterator[None]:
    """The model with its blocks computed anew for the backward pass, if `params` ask for it.

    Raises ModelError where OpenCLIP can't do so with a tower that trains, and ConfigError for batch
    norm in training mode, which would count each batch twice.
    """
    if not params.checkpoint_activations:
        yield
        return
    before = {module: _flags(module) for module in model.modules()}
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
        _need(model, params)
        yield
    finally:
        # Not by the same call with False: Hugging Face's tower takes that for True.
        for module, flags in before.items():
            vars(module).update(flags)


def _flags(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name in _FLAGS}


def _need(model: nn.Module, params: FinetuneParams) -> None:
    for name in TOWERS:
        if name in resting(params):
            continue
        tower = _tower(model, name)
        if not any(any(_flags(module).values()) for module in tower.modules()):
            raise ModelError(
                f"{_KEY} is true, and OpenCLIP can't do so with the {name} tower of this model: "
                "set finetune.micro_batch instead, which needs less memory with any model"
            )
        norms = (nn.modules.batchnorm._BatchNorm,)
        if not params.freeze_batch_norm and any(isinstance(m, norms) for m in tower.modules()):
            raise ConfigError(
                f"{_KEY} is true, and the {name} tower has batch norm in training mode, which "
                "would count each batch twice: set finetune.freeze_batch_norm to true"
            )


def _tower(model: nn.Module, name: str) -> nn.Module:
    """All that computes for images, or for texts."""
    if name == "image":
        return model.visual  # type: ignore[return-value]
    inner = getattr(model, "text", None)
    return inner if isinstance(inner, nn.Module) else model.transformer  # type: ignore[return-value]
