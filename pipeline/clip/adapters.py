"""Low-rank updates (LoRA: Hu et al. 2021, arXiv:2106.09685) on a model's attention and MLPs.

An updated weight is a property that computes W + α/r · B·A whenever it is read, so whatever reads
it gets the update: OpenCLIP's blocks, `nn.MultiheadAttention` by its packed weight and by its fast
path, a tower that shares its modules. A weight in which several projections are packed has an
update for each.

Shapes: P projections of a packed weight, of which U are updated; N rows of each; D its inputs; R
the rank.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipeline.clip.layers import DECODER, SCALES, TOWERS, Layer, layers, need_depth
from pipeline.errors import ConfigError

Target = Literal["query", "key", "value", "output", "mlp"]

_QKV: tuple[Target, ...] = ("query", "key", "value")
_WEIGHTS: Mapping[str, tuple[Target, ...]] = {
    "in_proj_weight": _QKV,
    "q_proj_weight": ("query",),
    "k_proj_weight": ("key",),
    "v_proj_weight": ("value",),
}
"""Parameters that a module holds itself: of nn.MultiheadAttention, and OpenCLIP's Attention."""

_LINEARS: Mapping[str, tuple[Target, ...]] = {
    "qkv": _QKV,
    "kv": ("key", "value"),
    **dict.fromkeys(("q", "q_proj", "q_lin", "query"), ("query",)),
    **dict.fromkeys(("k", "k_proj", "k_lin", "key"), ("key",)),
    **dict.fromkeys(("v", "v_proj", "v_lin", "value"), ("value",)),
    **dict.fromkeys(("out_proj", "out_lin", "o"), ("output",)),
    **dict.fromkeys(("c_fc", "fc1", "fc1_g", "fc1_x", "fc2", "w12", "w3"), ("mlp",)),
    **dict.fromkeys(("lin1", "lin2", "wi", "wi_0", "wi_1", "wo"), ("mlp",)),
}
"""Linear layers by name: OpenCLIP, timm, then Hugging Face's BERT, DistilBERT and T5."""


class Update(nn.Module):
    """W ↦ W + α/r · B·A on the updated projections of W.

    Drawn as the paper's authors draw it: A uniform within 1/√D, B zero, so that W is unchanged, to
    the bit, until B has moved. The sum is made in W's own precision, under autocast too.
    """

    which: Tensor

    def __init__(
        self,
        weight: Tensor,
        *,
        place: "_Place",
        rank: int,
        alpha: float,
        generator: torch.Generator,
    ) -> None:
        """Draw the update of `weight` from `generator`, which is on the CPU."""
        super().__init__()
        rows, inputs = len(weight) // place.of, weight.shape[1]
        shape = (len(place.updated), rank, inputs)
        drawn = torch.rand(shape, generator=generator, device="cpu") * 2 - 1
        self.A = nn.Parameter((drawn / inputs**0.5).to(weight))
        self.B = nn.Parameter(weight.new_zeros(len(place.updated), rows, rank))
        which = torch.tensor(place.updated, device=weight.device)
        self.register_buffer("which", which, persistent=False)
        self.scale = alpha / rank
        self.of = place.of
        self.order = place.order

    def forward(self, weight: Tensor) -> Tensor:
        """W PN×D → the updated W PN×D."""
        packed_PND = weight.reshape(self.of, -1, weight.shape[1])
        with _no_autocast(weight.device):
            if len(self.B) == self.of:
                updated_PND = torch.baddbmm(packed_PND, self.B, self.A, alpha=self.scale)
            else:
                change_UND = self.B @ self.A
                updated_PND = packed_PND.index_add(0, self.which, change_UND, alpha=self.scale)
        return updated_PND.flatten(0, 1)


def add(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    targets: Collection[Target],
    from_depth: int,
    seed: int,
) -> list[str]:
    """Freeze `model` and give its targets low-rank updates; return the updated weights' names.

    Only the updates train, and logit scale and bias as far as they did. Depths are those of
    `layers`, in each tower: 0 takes all. An update is drawn from the seed and the weight's name
    alone. The model's parameters have other names until `merge`.

    Raises ConfigError when the rank is larger than the smaller side of a weight, and when nothing
    in the model is a target; ModelError when depth is asked for in a tower that shows none.
    """
    if any(isinstance(module, Update) for module in model.modules()):
        raise ValueError("the model has low-rank updates: merge them before you add others")
    placed = layers(model)
    if from_depth:
        for tower in TOWERS:
            need_depth(placed, tower, "lora.from_depth")
    known = list(_places(model, placed))
    places = [
        place._replace(updated=updated)
        for place in known
        if place.layer.depth >= from_depth
        if (updated := tuple(i for i, role in enumerate(place.roles) if role in targets))
    ]
    if not places:
        raise ConfigError(_none_found(known, targets, from_depth))
    for place in places:
        _fits(rank, place)
    for name, parameter in model.named_parameters():
        if name not in SCALES:
            parameter.requires_grad_(False)
    for place in places:
        weight = getattr(place.module, place.attribute)
        generator = torch.Generator().manual_seed(_seed(seed, place.name))
        update = Update(weight, place=place, rank=rank, alpha=alpha, generator=generator)
        # "unsafe" leaves out a trial of the update, which the meta device can't run.
        parametrize.register_parametrization(place.module, place.attribute, update, unsafe=True)
    return [place.name for place in places]


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Fold the updates into the weights: the very modules, names and order from before `add`.

    Weights keep their identity, and stay as frozen as `add` has left them.
    """
    for module in model.modules():
        updates = _updates(module)
        if not updates:
            continue
        merged = {name: getattr(module, name) for name in updates}
        originals = {name: module.parametrizations[name].original for name in updates}  # type: ignore[index,union-attr]
        # Not parametrize.remove_parametrizations: it strips the class, which a deep copy shares.
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, original in originals.items():
            original.copy_(merged[name])
            module.register_parameter(name, original)
        for name in next(iter(updates.values())).order:
            module._parameters[name] = module._parameters.pop(name)


def _no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Operations in their operands' own precision; the meta device has no autocast at all."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def trainable(model: nn.Module) -> int:
    """How many numbers of `model` train."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


class _Place(NamedTuple):
    """A weight that can be updated: what its P projections are, and which of them are updated."""

    name: str
    module: nn.Module
    attribute: str
    roles: tuple[Target, ...]
    layer: Layer
    order: tuple[str, ...]
    updated: tuple[int, ...]

    @property
    def of(self) -> int:
        return len(self.roles)


def _places(model: nn.Module, placed: Mapping[str, Layer]) -> Iterator[_Place]:
    for path, module in model.named_modules():
        order = tuple(module._parameters)
        for attribute, roles in _roles(model, path, module):
            name = f"{path}.{attribute}"
            if module._parameters.get(attribute) is None or path.startswith(f"{DECODER}."):
                continue
            yield _Place(name, module, attribute, roles, placed[name], order, ())


def _roles(
    model: nn.Module, path: str, module: nn.Module
) -> Iterator[tuple[str, tuple[Target, ...]]]:
    """Parameters of `module` that can be updated, each with what it projects to."""
    yield from ((name, roles) for name, roles in _WEIGHTS.items() if name in module._parameters)
    if not isinstance(module, nn.Linear):
        return
    *above, last = path.split(".")
    beside = {name for name, _ in model.get_submodule(".".join(above)).named_children()}
    if last in ("proj", "c_proj") and beside & {"qkv", "q", "q_proj"}:
        yield "weight", ("output",)
    elif last == "c_proj" and "c_fc" in beside:
        yield "weight", ("mlp",)
    elif last == "dense" and above[-2:] == ["attention", "output"]:
        yield "weight", ("output",)
    elif last == "dense" and above[-1] in ("intermediate", "output"):
        yield "weight", ("mlp",)
    elif last in _LINEARS:
        yield "weight", _LINEARS[last]


def _updates(module: nn.Module) -> dict[str, Update]:
    """The updates of the module's own parameters, by their names."""
    if not parametrize.is_parametrized(module):
        return {}
    lists: nn.ModuleDict = module.parametrizations  # type: ignore[assignment]
    return {name: chain[0] for name, chain in lists.items() if isinstance(chain[0], Update)}  # type: ignore[index]


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big")


def _fits(rank: int, place: _Place) -> None:
    rows, inputs = getattr(place.module, place.attribute).shape
    smaller = min(rows // place.of, inputs)
    if not 1 <= rank <= smaller:
        raise ConfigError(
            f"lora.rank is {rank}, and {place.name} projects {inputs} to {rows // place.of}: "
            f"set a rank of 1 to {smaller}, or other lora.targets"
        )


def _none_found(known: list[_Place], targets: Collection[Target], from_depth: int) -> str:
    asked = ", ".join(targets) or "empty"
    there = []
    for tower in TOWERS:
        within = [place for place in known if place.layer.tower == tower]
        roles = [t for t in get_args(Target) if any(t in place.roles for place in within)]
        depths = [place.layer.depth for place in within]
        if roles:
            there.append(f"{tower}: {', '.join(roles)} at depths {min(depths)} to {max(depths)}")
    return (
        f"lora.targets is {asked} from depth {from_depth} on, and the model has none of it there; "
        f"it has {'; '.join(there) or 'no attention or MLP known here'}"
    )
