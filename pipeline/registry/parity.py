"""Whether a model that left the project still says the same: what it is shown, and how near."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.clip.model import Clip
from pipeline.errors import ModelError

TEXTS = (
    "a photo of a cat",
    "",
    "Two dogs, 3 o'clock: they're über-happy, aren't they?!",
    "a very long caption " * 100,
)
"""Plain, empty, punctuation and letters beyond ASCII, and longer than any model reads."""

SHAPES = ((1.7, 1.0), (1.0, 2.3), (0.6, 0.8))
"""Width and height of the pictures, by the side that the model reads: none is square."""


class Answers(NamedTuple):
    """What a model says of I images and T texts.

    Attributes:
        images, texts: embeddings of unit length, I×D and T×D.
        logits: their products by the logit scale, I×T.
    """

    images: Tensor
    texts: Tensor
    logits: Tensor


def pictures(clip: Clip) -> list[Image.Image]:
    """Smooth coloured pictures, the same at each call, of sizes around what the model reads."""
    size = clip.config["preprocess_cfg"]["size"]
    side = max(size) if isinstance(size, list | tuple) else size
    return [
        _picture(round(side * width), round(side * height), phase=number)
        for number, (width, height) in enumerate(SHAPES, 1)
    ]


def pixels(clip: Clip, shown: list[Image.Image]) -> Tensor:
    """I pictures → the model's input I×3×H×W."""
    return clip.pixels(torch.stack([torch.from_numpy(clip.crop(one).copy()) for one in shown]))


@torch.no_grad()
def answers(clip: Clip, pixels_I: Tensor, tokens_TL: Tensor) -> Answers:
    """What the model itself says of pixels I×3×H×W and tokens T×L."""
    image_ID = clip.model.encode_image(pixels_I, normalize=True)  # type: ignore[operator]
    text_TD = clip.model.encode_text(tokens_TL, normalize=True)  # type: ignore[operator]
    return Answers(image_ID, text_TD, logits(clip, image_ID, text_TD))


def logits(clip: Clip, image_ID: Tensor, text_TD: Tensor) -> Tensor:
    """Unit vectors → logits I×T, with the model's scale and, where it has one, its bias."""
    bias = getattr(clip.model, "logit_bias", None)
    scaled = clip.model.logit_scale.exp() * image_ID @ text_TD.T  # type: ignore[operator]
    return scaled if bias is None else scaled + bias


def hold(found: Mapping[str, tuple[Tensor, Tensor, float]], *, what: str) -> None:
    """Raise ModelError where two tensors of one name differ by more than the bound beside them."""
    for name, (ours, theirs, bound) in found.items():
        if ours.shape != theirs.shape:
            raise ModelError(
                f"{what}: its {name} have the shape {tuple(theirs.shape)}, the model's "
                f"{tuple(ours.shape)}. Nothing was written"
            )
        apart = (ours - theirs).abs().max().item()
        if not apart <= bound:  # NaN differs too
            raise ModelError(
                f"{what}: its {name} differ from the model's by up to {apart:.2g}, and {bound:g} "
                "is allowed. Nothing was written; `pip list` beside requirements.lock tells which "
                "library has another version"
            )


def _picture(width: int, height: int, *, phase: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 3, height))
    waves = [np.sin(x * (phase + k) + y * k) * 127.5 + 127.5 for k in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).round().astype(np.uint8))
