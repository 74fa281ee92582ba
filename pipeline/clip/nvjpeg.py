"""JPEGs decoded and resized where the model computes: nvJPEG on a GPU, by torchvision.

Files are read, and their headers looked at, on the CPU. What a GPU's decoder would read in another
way than the rest of the pipeline (another format, CMYK, an EXIF orientation) or not at all is
decoded on the CPU.

Shapes: B pictures of a batch, H×W one of them, S the crop's side.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from pipeline.clip.resizing import Crop, Shape, middle
from pipeline.data.images import opened, orientation
from pipeline.data.places import Place

TOGETHER = 32
"""Pictures decoded at once: as many of 12 megapixels take 1.2 GB."""

MODES = frozenset({"RGB", "L"})


class Encoded(NamedTuple):
    """A JPEG that is still to be decoded: its bytes, 1-D uint8, and where they lie."""

    content: Tensor
    place: Place


Item = Tensor | Encoded
"""A crop S×S×3 uint8, or what will become one."""


def encoded(place: Place, crop: Callable[[Place], Crop]) -> Item:
    """The bytes at `place` where a GPU is to decode them, else the crop; OSError for no picture."""
    content = place.read()
    try:
        with opened(content) as picture:
            plain = picture.format == "JPEG" and picture.mode in MODES and orientation(picture) == 1
    except OSError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever a broken file provokes
        raise OSError(f"{type(error).__name__}: {error}") from error
    if plain:
        return Encoded(torch.frombuffer(bytearray(content), dtype=torch.uint8), place)
    return torch.from_numpy(crop(place))


def crops(
    items: Sequence[Item], shape: Shape, *, crop: Callable[[Place], Crop], device: torch.device
) -> Tensor:
    """B items → their crops B×S×S×3 uint8 on `device`. OSError where neither decoder can."""
    waiting = iter([item for item in items if isinstance(item, Encoded)])
    done: list[Tensor] = []
    while part := list(islice(waiting, TOGETHER)):
        done += _decoded(part, shape, crop=crop, device=device)
    ready = iter(done)
    return torch.stack(
        [next(ready) if isinstance(item, Encoded) else item.to(device) for item in items]
    )


def _decoded(
    items: Sequence[Encoded],
    shape: Shape,
    *,
    crop: Callable[[Place], Crop],
    device: torch.device,
) -> list[Tensor]:
    try:
        with warnings.catch_warnings():
            # torchvision would hand this on to TorchCodec, which needs FFmpeg on the machine.
            warnings.simplefilter("ignore", DeprecationWarning)
            pictures = decode_jpeg(
                [item.content for item in items], ImageReadMode.RGB, device=device
            )
    except RuntimeError:  # one of them is of a kind that the GPU's decoder does not know
        return [torch.from_numpy(crop(item.place)).to(device) for item in items]
    return [_resized(picture, shape) for picture in pictures]


def _resized(picture: Tensor, shape: Shape) -> Tensor:
    """3×H×W uint8 → S×S×3 uint8. A GPU has no antialiased resize of bytes: it is done in fp32."""
    target = shape.target(picture.shape[2], picture.shape[1])
    resized = F.interpolate(
        picture[None].float(),
        size=(target.height, target.width),
        mode=shape.interpolation,
        align_corners=False,
        antialias=True,
    )
    left, top = middle(target, shape.side)
    whole = resized[0, :, top : top + shape.side, left : left + shape.side]
    return whole.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
