"""Training pictures varied a little: each by (seed, epoch, image id) alone.

What happens to a picture depends on nothing else: not on its batch, on how that is cut, on who
computes it, or on a restart. A box of it is enlarged to the whole, with the filter that
resizing has (Keys' cubic convolution, a = -0.5, as in Pillow); then brightness and contrast move,
as in torchvision's ColorJitter, and all of it is rounded once. Colours don't move, for captions
name them.

Every sum is made by products and additions of single elements in one order, so a CPU and a GPU, and
batches of any size, give the same bytes.

Shapes: B images of a batch, H×W a crop, N = 4 taps of the filter.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.sections import AugmentParams

BLOCK = 2**19
"""Values at once on a CPU: what is in between then stays in its caches."""

CUBIC = -0.5
TAPS = (-1, 0, 1, 2)

Values = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


class Draws(NamedTuple):
    """What happens to each of B images; each field holds B values.

    Attributes:
        left, top, width, height: of the box, as shares of the crop's sides.
        brightness, contrast: factors; contrast is about the mean of the crop.
        flipped: bool, left and right change places.
    """

    left: Values
    top: Values
    width: Values
    height: Values
    brightness: Values
    contrast: Values
    flipped: Flags


def augmented(
    crops: Tensor,
    image_ids: Sequence[str],
    params: AugmentParams | None,
    *,
    seed: int,
    epoch: int,
) -> Tensor:
    """Crops B×H×W×3 uint8 → the same, varied, on the same device; as they are where None asks.

    `image_ids` are those of the B crops.
    """
    if params is None or not len(image_ids):
        return crops
    draws = drawn(image_ids, params, seed=seed, epoch=epoch)
    on_cpu = crops.device.type == "cpu"
    size = max(BLOCK // crops[0].numel(), 1) if on_cpu else len(crops)
    starts = range(0, len(crops), size)
    return torch.cat([varied(crops[i : i + size], _rows(draws, i, size)) for i in starts])


def drawn(image_ids: Sequence[str], params: AugmentParams, *, seed: int, epoch: int) -> Draws:
    """What happens to B images in an epoch: a hash of seed, epoch and id is all the chance.

    Each side of a box is uniform between the root of `params.scale` and 1, so the box keeps at
    least `params.scale` of the area.
    """
    across, down, width, height, light, contrast, side = _uniform(image_ids, seed, epoch)
    least = math.sqrt(params.scale)
    width, height = least + (1 - least) * width, least + (1 - least) * height
    return Draws(
        left=(1 - width) * across,
        top=(1 - height) * down,
        width=width,
        height=height,
        brightness=1 + params.brightness * (2 * light - 1),
        contrast=1 + params.contrast * (2 * contrast - 1),
        flipped=side < params.flip,
    )


def varied(crops: Tensor, draws: Draws) -> Tensor:
    """Crops B×H×W×3 uint8, as `draws` has it for each; the box is enlarged to the whole."""
    down = _enlarged(crops.float(), draws.top, draws.height)
    across = _enlarged(down.transpose(1, 2), draws.left, draws.width, flipped=draws.flipped)
    # brightness · (contrast · value + (1 - contrast) · mean), the mean as a sum of whole numbers
    mean = crops.sum(dim=(1, 2, 3)).cpu().numpy() / crops[0].numel()
    gain = _each(draws.brightness * draws.contrast, crops.device)
    offset = _each(draws.brightness * (1 - draws.contrast) * mean, crops.device)
    values = across.transpose(1, 2).mul(gain).add_(offset)
    return values.round_().clamp_(0, 255).to(torch.uint8).contiguous()


def _enlarged(
    values: Tensor, start: Values, share: Values, *, flipped: Flags | None = None
) -> Tensor:
    """B×H×W×3 → the same, rows `start` to `start + share` of each (shares of H) in place of H."""
    count, length = values.shape[:2]
    at = (np.arange(length) + 0.5) / length
    along = np.broadcast_to(at, (count, length))
    if flipped is not None:
        along = np.where(flipped[:, None], along[:, ::-1], along)
    place = (start[:, None] + along * share[:, None]) * length - 0.5
    first = np.floor(place)
    flat = values.reshape(count * length, -1)
    total, taken = torch.zeros_like(flat), torch.empty_like(flat)
    for tap in TAPS:
        row = np.clip(first + tap, 0, length - 1) + np.arange(count)[:, None] * length
        index = torch.from_numpy(row.astype(np.int64).reshape(-1)).to(values.device)
        weight = torch.from_numpy(_keys(first + tap - place).astype(np.float32).reshape(-1, 1))
        torch.index_select(flat, 0, index, out=taken)
        total += taken.mul_(weight.to(values.device))
    return total.view(values.shape)


def _keys(distance: Values) -> Values:
    """The cubic convolution kernel (Keys 1981) at distances of up to 2 pixels; 4 taps sum to 1."""
    x, a = np.abs(distance), CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)


def _each(values: Values, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device).view(-1, 1, 1, 1)


def _rows(draws: Draws, start: int, count: int) -> Draws:
    return Draws._make(values[start : start + count] for values in draws)


def _uniform(image_ids: Sequence[str], seed: int, epoch: int) -> Values:
    """Seven numbers in [0, 1) for each of B images: 7×B."""
    drawn = [
        hashlib.blake2b(f"{seed} {epoch} {image_id}".encode(), digest_size=56).digest()
        for image_id in image_ids
    ]
    whole = np.frombuffer(b"".join(drawn), dtype="<u8").reshape(-1, 7)
    found: Values = (whole >> np.uint64(11)).T.astype(np.float64) * 2.0**-53
    return found
