"""A tower's head: the projection into the common space, which comes last and can train by itself.

What a tower gives without it, its pooled features, depends on frozen weights alone, so it need be
computed but once. Heads of OpenCLIP's towers: a matrix or a linear layer, and the small MLP that
timm's and Hugging Face's may have. What pools and projects at once keeps its pooling out of it.

Shapes: B items of a batch, F width of a tower's features, D width of an embedding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.clip.layers import TOWERS
from pipeline.clip.towers import shallow
from pipeline.errors import ModelError

_IMAGE = ("visual.proj", "visual.attnpool.c_proj", "visual.head.proj", "visual.head.mlp")
_TEXT = ("text_projection", "text.text_projection", "text.proj")
_PLACES = {"image": _IMAGE, "text": _TEXT}
"""OpenCLIP's transformers, ResNets, timm; CLIP, a text tower of its own, Hugging Face."""

_OPTIONAL = ("proj", "text_projection")
"""What OpenCLIP's own towers do without where it is None."""


class Head(NamedTuple):
    """The head of a tower.

    Attributes:
        name: of the parameter, or of the module, in the model.
        project: features B×F → embeddings B×D, not of unit length, with the weights as they are.
    """

    name: str
    project: Callable[[Tensor], Tensor]


def head_of(model: nn.Module, tower: str) -> Head:
    """The head of `tower`, image or text; ModelError where its pooling is the last that it does."""
    for name in _PLACES[tower]:
        found = _at(model, name)
        if isinstance(found, nn.Parameter) and found.ndim == 2:
            return Head(name, partial(_times, matrix_FD=found))
        if isinstance(found, nn.Module) and any(True for _ in found.parameters()):
            return Head(name, found)
    raise ModelError(
        f"finetune.method is head, which trains the projection after a tower's pooling, and the "
        f"{tower} tower of this model has none (no {', '.join(_PLACES[tower])}): set "
        "finetune.method to lora, or to lit with finetune.lock holding all but the last blocks"
    )


def _times(features_BF: Tensor, *, matrix_FD: Tensor) -> Tensor:
    return features_BF @ matrix_FD


def weights_of(model: nn.Module) -> set[str]:
    """Names of the parameters that the heads of both towers hold; ModelError as `head_of`."""
    names = [head_of(model, tower).name for tower in TOWERS]
    return {
        weight
        for weight, _ in model.named_parameters()
        if any(weight == name or weight.startswith(f"{name}.") for name in names)
    }


def without(model: nn.Module) -> nn.Module:
    """A model that ends each tower in its features; all other weights are shared, none is changed.

    Raises ModelError as `head_of`.
    """
    twin = model
    for tower in TOWERS:
        twin = _cut(twin, head_of(model, tower).name.split("."))
    return twin


def _at(model: nn.Module, name: str) -> Any:
    found: Any = model
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _cut(module: nn.Module, path: list[str]) -> nn.Module:
    first, *rest = path
    twin = shallow(module)
    if rest:
        twin._modules[first] = _cut(getattr(module, first), rest)
        return twin
    head = getattr(module, first)
    table = twin.__dict__["_parameters" if first in twin._parameters else "_modules"]
    if first == "c_proj":  # read by its weight, not called: it has to stay a linear layer
        table[first] = _same(head)
    elif first in _OPTIONAL and not _calls(module):
        table[first] = None
    else:
        table[first] = nn.Identity()
    return twin


def _calls(module: nn.Module) -> bool:
    """Whether a tower calls its head, whatever it is, rather than look whether there is one."""
    return isinstance(module, nn.Sequential) or hasattr(module, "pooler")


def _same(linear: nn.Linear) -> nn.Linear:
    """A linear layer that gives what it gets, to the bit: sums of one term and zeros."""
    with torch.device("meta"):
        found = nn.Linear(linear.in_features, linear.in_features)
    zeros = linear.weight.new_zeros(linear.in_features)
    found.weight = nn.Parameter(torch.eye(len(zeros)).to(zeros), requires_grad=False)
    found.bias = nn.Parameter(zeros, requires_grad=False)
    return found
