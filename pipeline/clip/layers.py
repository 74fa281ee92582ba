"""Where each parameter of a model stands in depth: what layer-wise rates and locks go by."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import nn

from pipeline.errors import ModelError

Tower = Literal["image", "text", "scale"]

TOWERS: tuple[Literal["image", "text"], ...] = ("image", "text")

SCALES = ("logit_scale", "logit_bias")

DECODER = "text_decoder"
"""CoCa's: it reads both towers and has no part in an embedding."""

_OF_TEXT = {
    "text", "transformer", "token_embedding", "positional_embedding", "cls_emb",
    "ln_final", "text_projection",
}  # fmt: skip
"""What holds text at a model's top, where CLIP itself has it without a tower of its own."""

_STACKS = (
    "transformer.resblocks",  # OpenCLIP's own, image and text
    "trunk.blocks",  # timm
    "trunk.stages",
    "trunk.layers",
    "transformer.encoder.layer",  # Hugging Face: BERT, RoBERTa
    "transformer.encoder.layers",
    "transformer.layers",
    "transformer.transformer.layer",  # DistilBERT
    "transformer.block",  # the encoder of T5
)
_NUMBERED = ("layer", "trunk.layer")
"""Of ResNets: layer1, layer2 …"""

_EARLY = {"token_embedding", "positional_embedding", "class_embedding", "cls_emb"}
_LATE = {"proj", "text_projection"}
"""OpenCLIP's own, which are registered in another order than they compute in."""


class Layer(NamedTuple):
    """The place of a parameter.

    Attributes:
        tower: "scale" is all that stands outside both towers: logit scale and bias, and whatever a
            caller has added to the model.
        depth: 0 embeddings and stem, 1…n the blocks, n+1 final norm, pooling and projection.
        of: n, the blocks of the tower; 0 where they can't be told, or outside the towers.
    """

    tower: Tower
    depth: int
    of: int

    @property
    def above(self) -> int:
        """How many layers stand between this one and the tower's output."""
        return self.of + 1 - self.depth if self.of else 0


def layers(model: nn.Module) -> dict[str, Layer]:
    """The place of each parameter, by its present name: before or after updates are added.

    A tower whose blocks can't be told is one layer: `need_depth` says so to who needs more.
    """
    image, image_of = _depths(model.visual)  # type: ignore[arg-type]
    within = getattr(model, "text", None)
    prefix, tower = ("text.", within) if isinstance(within, nn.Module) else ("", model)
    text, text_of = _depths(tower)
    found = {}
    for name, _ in model.named_parameters():
        first = name.partition(".")[0]
        if first == "visual":
            found[name] = Layer("image", image[name.removeprefix("visual.")], image_of)
        elif first == DECODER:
            found[name] = Layer("text", text_of + 1 if text_of else 0, text_of)
        elif first in _OF_TEXT:
            found[name] = Layer("text", text[name.removeprefix(prefix)], text_of)
        else:
            found[name] = Layer("scale", 0, 0)
    return found


def blocks(placed: Mapping[str, Layer], tower: Tower) -> int:
    """How many blocks a tower has; 0 where they can't be told."""
    return max((layer.of for layer in placed.values() if layer.tower == tower), default=0)


def need_depth(placed: Mapping[str, Layer], tower: Tower, purpose: str) -> None:
    """Raise ModelError, naming the purpose, where the blocks of a tower can't be told."""
    within = [name for name, layer in placed.items() if layer.tower == tower]
    if within and not blocks(placed, tower):
        parts = sorted({".".join(name.split(".")[:2]) for name in within})
        raise ModelError(
            f"{purpose} needs the blocks of the {tower} tower, and in this architecture they can't "
            f"be told apart (it has {', '.join(parts[:12])}): leave {purpose} out, or choose "
            "another model.name"
        )


def _depths(tower: nn.Module) -> tuple[dict[str, int], int]:
    """Depth of each parameter of a tower, by its name there, and n; all 0 where no block is found.

    Modules come in the order in which they were registered, which is the order in which they
    compute: what comes before the first block is the stem, what comes after it the head.
    """
    prefixes = _blocks(tower)
    names = [name for name, _ in tower.named_parameters()]
    if not prefixes:
        return dict.fromkeys(names, 0), 0
    order = {name: i for i, (name, _) in enumerate(tower.named_modules())}
    begin = order[prefixes[0]]
    head = len(prefixes) + 1

    def depth(name: str) -> int:
        for number, prefix in enumerate(prefixes, 1):
            if name.startswith(f"{prefix}."):
                return number
        first = name.partition(".")[0]
        if first in _EARLY:
            return 0
        if first in _LATE:
            return head
        return 0 if order[name.rpartition(".")[0]] < begin else head

    return {name: depth(name) for name in names}, len(prefixes)


def stack(tower: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer, which are alike, or of the one inside a tower; else none."""
    modules = dict(tower.named_modules())
    for path in _STACKS:
        for place in (path, path.removeprefix("transformer.")):
            found = modules.get(place)
            if isinstance(found, (nn.ModuleList, nn.Sequential)) and len(found):
                return list(found.children())
    return []


def _blocks(tower: nn.Module) -> list[str]:
    """Names of a tower's blocks, lowest first; none where they can't be told."""
    modules = dict(tower.named_modules())
    for path in _STACKS:
        stack = modules.get(path)
        if isinstance(stack, (nn.ModuleList, nn.Sequential)) and len(stack):
            return [f"{path}.{name}" for name, _ in stack.named_children()]
    for path in _NUMBERED:
        number = 1
        while f"{path}{number}" in modules:
            number += 1
        if number > 1:
            return [f"{path}{i}" for i in range(1, number)]
    return []
