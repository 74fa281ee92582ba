"""What objects are made of: how a material darkens and lightens the colour of an object.

Legend: S side in pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.floating[Any]]
Surface = Callable[[int, np.random.Generator], tuple[Grey, Grey]]
"""(S, generator) → factor_SS on the colour and light_SS added to it, in shares of white."""


def soft_noise(shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> Grey:
    """Smooth noise from 0 to 1: `cells` random values (rows, columns), enlarged to `shape`."""
    small = Image.fromarray(rng.integers(0, 256, cells, dtype=np.uint8))
    grown = small.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(grown, dtype=np.float32) / 255


def _axes(side: int) -> tuple[Grey, Grey]:
    """y_S1 and x_1S from 0 to 1."""
    line = np.linspace(0, 1, side, dtype=np.float32)
    return line[:, None], line[None, :]


def _shade(side: int) -> Grey:
    """Light from the upper left."""
    y, x = _axes(side)
    return 1.08 - 0.12 * (x + y)


def _nothing(side: int) -> Grey:
    return np.zeros((side, side), dtype=np.float32)


def _matte(side: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    return _shade(side), _nothing(side)


def _glossy(side: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    y, x = _axes(side)
    distance = (x - 0.36) ** 2 + (y - 0.32) ** 2
    return 1.1 - 0.3 * (x + y) / 2, 0.8 * np.exp(-distance / 0.018) + 0.12 * np.exp(-distance / 0.1)


def _striped(side: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    y, x = _axes(side)
    angle, turns = rng.uniform(0, np.pi), rng.uniform(5, 7)
    wave = np.sin(2 * np.pi * turns * (x * np.cos(angle) + y * np.sin(angle)))
    return _shade(side) * (0.85 + 0.18 * np.tanh(wave * 4)), _nothing(side)


def _spotted(side: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    y, x = _axes(side)
    turns, phase = rng.uniform(4.5, 6), rng.uniform(0, 2 * np.pi, 2)
    grid = np.sin(2 * np.pi * turns * x + phase[0]) * np.sin(2 * np.pi * turns * y + phase[1])
    return _shade(side) * (1 - 0.35 / (1 + np.exp(-(grid - 0.45) * 14))), _nothing(side)


def _wooden(side: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    y, x = _axes(side)
    bend = soft_noise((side, side), (4, 3), rng)
    grain = np.sin(2 * np.pi * (6 * y + 1.6 * bend + 0.4 * x))
    fine = soft_noise((side, side), (max(side // 2, 1), 4), rng)
    return _shade(side) * (0.86 + 0.1 * grain + 0.12 * (fine - 0.5)), _nothing(side)


def _metal(side: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    y, x = _axes(side)
    bands = np.cos(2 * np.pi * (1.3 * (x + 0.35 * y) + rng.uniform(0, 1)))
    brushed = soft_noise((side, side), (side, 2), rng)
    return 0.88 + 0.15 * bands + 0.16 * (brushed - 0.5), 0.22 * np.maximum(bands, 0) ** 3


def _woolly(side: int, rng: np.random.Generator) -> tuple[Grey, Grey]:
    cells = max(side // 4, 4)
    curls = soft_noise((side, side), (cells, cells), rng)
    return _shade(side) * (0.72 + 0.48 * curls), _nothing(side)


SURFACES: dict[str, Surface] = {
    "matte": _matte,
    "glossy": _glossy,
    "striped": _striped,
    "spotted": _spotted,
    "wooden": _wooden,
    "metal": _metal,
    "woolly": _woolly,
}


def paint(
    colour: tuple[int, int, int], material: str, *, side: int, rng: np.random.Generator
) -> Image.Image:
    """A `side` × `side` RGB swatch of a material in a colour."""
    factor, light = SURFACES[material](side, rng)
    base = np.array(colour, dtype=np.float32)
    # The constant part keeps a pattern visible on black, where a factor alone shows nothing.
    pixels = base * factor[..., None] + 42 * (factor[..., None] - 1)
    pixels += (255 - pixels) * light[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
