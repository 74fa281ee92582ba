"""Crops nearly as OpenCLIP makes them, in half the time.

OpenCLIP decodes the whole picture and resizes it with Pillow. Here a JPEG much larger than the crop
is decoded at a half, a quarter or an eighth (a scaled inverse cosine transform: less work the
smaller it is) as long as twice the crop is left of it, and torch's antialiased resize, whose
filters are Pillow's, takes the place of Pillow's own.

Of a picture decoded at full size, at most one value in 200 is more than 2 of 255 away from
OpenCLIP's (hard edges, where a filter overshoots and is cut off), and a quarter on the mean; of one
that was scaled as it was decoded, less than 1 on the mean. tests/clip/test_resizing.py says so.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline.data.images import FROM_BELOW, FROM_RIGHT, Reduced, open_reduced
from pipeline.data.places import Place

Crop = np.ndarray[Any, np.dtype[np.uint8]]

SPARE = 2
"""How many times the crop's side a scaled decode leaves at least: below 2, edges look different."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class Target(NamedTuple):
    """What a picture is resized to before its middle is cut out."""

    width: int
    height: int


class Shape(NamedTuple):
    """What OpenCLIP's transform makes of a picture of any size: a square of `side` pixels."""

    side: int
    squashed: bool
    interpolation: str

    def target(self, width: int, height: int) -> Target:
        """To what a picture of this size is resized."""
        if self.squashed:
            return Target(self.side, self.side)
        return _shortest(width, height, self.side)


def shape_of(preprocess: dict[str, Any]) -> Shape | None:
    """The shape that OpenCLIP's `preprocess_cfg` describes; None where it has no fast way."""
    size, mode, name = (preprocess[key] for key in ("size", "resize_mode", "interpolation"))
    side = size[0] if isinstance(size, tuple | list) and len(set(size)) == 1 else size
    if not isinstance(side, int) or mode not in ("shortest", "squash") or name not in FILTERS:
        return None
    return Shape(side, mode == "squash", name)


def fast_crop(preprocess: dict[str, Any]) -> Callable[[Place], Crop] | None:
    """A function from a place to the crop there, H×W×3; None where the transform has no fast way.

    `preprocess` is OpenCLIP's `preprocess_cfg`. The function raises OSError where there is no
    picture.
    """
    shape = shape_of(preprocess)
    if shape is None:
        return None
    side, name = shape.side, shape.interpolation

    def crop(place: Place) -> Crop:
        found = open_reduced(place, lambda width, height: _least(width, height, side))
        target = shape.target(found.width, found.height)
        if found.picture.size == (found.width, found.height):
            return _resized(found.picture, target, side, name)
        return _cut(found, target, side, FILTERS[name])

    return crop


def _least(width: int, height: int, side: int) -> tuple[int, int]:
    """The size that a scaled decode must leave."""
    share = SPARE * side / min(width, height)
    return math.ceil(width * share), math.ceil(height * share)


def _shortest(width: int, height: int, side: int) -> Target:
    """torchvision's Resize(side): the shorter side becomes `side`, the longer is rounded down."""
    if width <= height:
        return Target(side, int(side * height / width))
    return Target(int(side * width / height), side)


def middle(target: Target, side: int) -> tuple[int, int]:
    """Left and top of torchvision's CenterCrop, which rounds half to even."""
    return round((target.width - side) / 2), round((target.height - side) / 2)


def _resized(picture: Image.Image, target: Target, side: int, name: str) -> Crop:
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).unsqueeze(0)
    resized = F.interpolate(
        values, size=(target.height, target.width), mode=name, align_corners=False, antialias=True
    )
    left, top = middle(target, side)
    whole: Crop = resized[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(whole[top : top + side, left : left + side])


def _cut(found: Reduced, target: Target, side: int, resample: Image.Resampling) -> Crop:
    """From a picture decoded at a fraction: only the part that the crop shows, at its true place.

    A side that the fraction does not divide was rounded up, so the part is given in pixels of the
    whole, divided.
    """
    picture = found.picture
    divisor = round(found.width / picture.width)
    width, height = found.width / divisor, found.height / divisor
    first_x = picture.width - width if found.orientation in FROM_RIGHT else 0.0
    first_y = picture.height - height if found.orientation in FROM_BELOW else 0.0
    across, down = width / target.width, height / target.height
    left, top = middle(target, side)
    box = (
        first_x + left * across,
        first_y + top * down,
        min(first_x + (left + side) * across, picture.width),
        min(first_y + (top + side) * down, picture.height),
    )
    return np.array(picture.resize((side, side), resample, box=box))
