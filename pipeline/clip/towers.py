"""A model's two towers as they embed: precision, shapes and what of a text is read.

Every batch of a tower has the same shape, filled up where items run out: kernels choose their
order of sums by shape, so what an item becomes then depends on the item alone, not on its company.
That is what lets a vector be kept, and be computed by any process.

Shapes: B items of a batch, H×W a crop, L tokens of a text, D width of an embedding.
"""

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.clip import sizes
from pipeline.clip.model import Clip

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

STEP = 2
"""Texts are cut to a multiple of this many tokens: a kind of batch for each."""


class Towers:
    """A model that embeds batches, and nothing else.

    The weights themselves are in the asked precision. Under autocast and `inference_mode` a CPU
    would cast them anew for each batch.
    """

    def __init__(
        self, clip: Clip, *, device: torch.device, precision: Precision, compiled: bool = False
    ) -> None:
        """Move a copy of the model's weights to `device`, in `precision`."""
        self._clip, self.device = clip, device
        self._dtype = DTYPES[precision]
        model = clip.model.eval()
        if precision != "fp32":
            model = copy.deepcopy(model).to(self._dtype)
        self._model = model.to(device)
        self._lengths: dict[int, nn.Module] = {}
        self._image = torch.compile(self._encode_image) if compiled else self._encode_image

    @torch.no_grad()
    def images(self, crops: Tensor) -> Tensor:
        """Crops B×H×W×3 uint8 → B×D fp32 of unit length, on the device."""
        pixels = self._clip.pixels(crops.to(self.device, non_blocking=True))
        return _unit(self._image(pixels.to(self._dtype)))

    @torch.no_grad()
    def texts(self, tokens: Tensor) -> Tensor:
        """Tokens B×L, cut to what `read_length` says → B×D fp32 of unit length, on the device."""
        tower = self._of_length(tokens.shape[1])
        return _unit(tower.encode_text(tokens.to(self.device)))  # type: ignore[operator]

    def read_length(self, tokens: Tensor) -> list[int]:
        """To how many tokens each of B texts B×L can be cut without a change: B lengths.

        A causal tower that reads out at the end token never looks past it. Any other reads all.
        """
        lengths: list[int] = read_lengths(self._model, tokens).tolist()
        return lengths

    def _encode_image(self, pixels: Tensor) -> Tensor:
        found: Tensor = self._model.encode_image(pixels)  # type: ignore[operator]
        return found

    def _of_length(self, length: int) -> nn.Module:
        """The model with a text tower for texts of `length` tokens; weights are shared."""
        known = self._lengths.get(length)
        if known is None:
            known = self._lengths[length] = shortened(self._model, length)
        return known


def batch_for(clip: Clip, asked: int | Literal["auto"], *, device: torch.device) -> sizes.Batch:
    """How many images and texts to embed at once; `auto`: what is fast with this model here."""
    if asked != "auto":
        return sizes.Batch(asked, asked)
    parameters = sum(weight.numel() for weight in clip.model.parameters())
    return sizes.batch_of(device=device.type, parameters=parameters)


def read_lengths(model: nn.Module, tokens: Tensor) -> Tensor:
    """To how many tokens `model` can read each of B texts B×L without a change: B int64."""
    full = tokens.shape[1]
    end = _end_token(model)
    if end is None:
        return torch.full((len(tokens),), full)
    where = tokens.argmax(dim=1) if end == "largest" else (tokens == end).int().argmax(dim=1)
    rounded: Tensor = (where + STEP) // STEP * STEP
    return rounded.clamp(max=full)


def shortened(model: nn.Module, length: int) -> nn.Module:
    """A model that shares every weight but reads texts of `length` tokens.

    Its positional embedding is a slice of the whole one: gradients reach that, once. So where they
    flow, it serves one forward.
    """
    tower: Any = _text_tower(model)
    if _end_token(model) is None or length >= len(tower.positional_embedding):
        return model
    short = shallow(tower)
    short._parameters["positional_embedding"] = tower.positional_embedding[:length]
    short._buffers["attn_mask"] = tower.attn_mask[:length, :length]
    if tower is model:
        return short
    whole = shallow(model)
    whole._modules["text"] = short
    return whole


def _text_tower(model: nn.Module) -> nn.Module:
    """Where the positional embedding and the causal mask of texts are."""
    inner = getattr(model, "text", None)
    return inner if isinstance(inner, nn.Module) else model


def _end_token(model: nn.Module) -> int | Literal["largest"] | None:
    """What marks where a causal tower reads out; None where a text can't be cut."""
    tower = _text_tower(model)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    appended = getattr(tower, "cls_emb", None) is not None
    if appended or getattr(tower, "attn_mask", None) is None:  # Hugging Face's have no mask
        return None
    if pool == "argmax":
        return "largest"
    end: int | None = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
    return end if pool == "eos" else None


def shallow(module: nn.Module) -> nn.Module:
    """The same module under tables of names of its own."""
    twin = copy.copy(module)
    for table in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[table] = dict(module.__dict__[table])
    return twin


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
