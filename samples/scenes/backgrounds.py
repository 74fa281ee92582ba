"""Where objects stand: papers, patterns and places, painted without names for what is accidental.

Legend: H height, W width in pixels; colours from 0 to 255.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samples.scenes.surfaces import soft_noise

Pixels = NDArray[np.float32]
Background = Callable[[int, int, np.random.Generator], Pixels]
"""(H, W, generator) → pixels_HW3."""

Colour = tuple[float, float, float]


def _flat(height: int, width: int, colour: Colour) -> Pixels:
    return np.broadcast_to(np.array(colour, dtype=np.float32), (height, width, 3)).copy()


def _grain(pixels: Pixels, rng: np.random.Generator, *, strength: float, cell: int = 3) -> Pixels:
    """Add grey noise in patches of about `cell` pixels."""
    height, width = pixels.shape[:2]
    cells = (max(height // cell, 2), max(width // cell, 2))
    return pixels + strength * (soft_noise((height, width), cells, rng)[..., None] - 0.5)


def _fade(height: int, width: int, top: Colour, bottom: Colour) -> Pixels:
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    mixed = np.array(top, dtype=np.float32) * (1 - share) + np.array(bottom, np.float32) * share
    return np.broadcast_to(mixed, (height, width, 3)).copy()


def _paper(colour: Colour) -> Background:
    def background(height: int, width: int, rng: np.random.Generator) -> Pixels:
        tint = np.array(colour) + rng.uniform(-5, 5, 3)
        return _grain(_flat(height, width, tuple(tint)), rng, strength=10)

    return background


def _checkered(height: int, width: int, rng: np.random.Generator) -> Pixels:
    cell = max(int(min(height, width) * rng.uniform(0.09, 0.13)), 4)
    y, x = np.arange(height)[:, None] // cell, np.arange(width)[None, :] // cell
    pixels = _flat(height, width, (238, 236, 230))
    pixels[(x + y) % 2 == 0] = rng.choice(((206, 216, 226), (222, 210, 206), (208, 208, 208)))
    return pixels


def _gradient(height: int, width: int, rng: np.random.Generator) -> Pixels:
    top = tuple(rng.uniform(205, 245, 3))
    return _fade(height, width, top, (196, 190, 200) if rng.random() < 0.5 else (240, 236, 226))


def _tiles(height: int, width: int, rng: np.random.Generator) -> Pixels:
    cell = max(int(min(height, width) * rng.uniform(0.16, 0.22)), 8)
    pixels = _grain(_flat(height, width, (226, 232, 234)), rng, strength=14, cell=cell)
    pixels[np.arange(height) % cell < 2, :] = (198, 206, 210)
    pixels[:, np.arange(width) % cell < 2] = (198, 206, 210)
    return pixels


def _night(height: int, width: int, rng: np.random.Generator) -> Pixels:
    pixels = _fade(height, width, (10, 12, 38), (34, 34, 78))
    count = height * width // 500
    pixels[rng.integers(0, height, count), rng.integers(0, width, count)] = (226, 226, 206)
    return pixels


def _snow(height: int, width: int, rng: np.random.Generator) -> Pixels:
    pixels = _fade(height, width, (176, 192, 212), (206, 216, 230))
    ground = int(height * rng.uniform(0.5, 0.65))
    pixels[ground:] = _grain(
        _flat(height - ground, width, (238, 242, 248)), rng, strength=18, cell=9
    )
    count = height * width // 260
    y, x = rng.integers(0, height - 1, count), rng.integers(0, width - 1, count)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        pixels[y + down, x + right] = (252, 253, 255)
    return pixels


def _beach(height: int, width: int, rng: np.random.Generator) -> Pixels:
    sea, sand = int(height * rng.uniform(0.25, 0.35)), int(height * rng.uniform(0.45, 0.55))
    pixels = _fade(height, width, (158, 208, 240), (206, 230, 244))
    pixels[sea:sand] = _grain(_flat(sand - sea, width, (70, 138, 182)), rng, strength=46, cell=5)
    pixels[sand:] = _grain(_flat(height - sand, width, (226, 204, 158)), rng, strength=34, cell=2)
    pixels[sand : sand + 2] = (242, 246, 246)
    return pixels


def _meadow(height: int, width: int, rng: np.random.Generator) -> Pixels:
    ground = int(height * rng.uniform(0.3, 0.45))
    pixels = _fade(height, width, (140, 192, 236), (204, 228, 240))
    blades = soft_noise((height - ground, width), (max((height - ground) // 9, 2), width // 2), rng)
    pixels[ground:] = _flat(height - ground, width, (112, 168, 76)) + 48 * (blades[..., None] - 0.5)
    return pixels


def _desert(height: int, width: int, rng: np.random.Generator) -> Pixels:
    pixels = _fade(height, width, (146, 190, 226), (244, 222, 186))
    x = np.linspace(0, 1, width, dtype=np.float32)
    y = np.arange(height)[:, None] / height
    for level, colour in ((0.42, (226, 176, 112)), (0.6, (208, 152, 90)), (0.78, (188, 132, 76))):
        phase, turns = rng.uniform(0, 6.3), rng.uniform(0.7, 1.5)
        dune = level + 0.06 * np.sin(2 * np.pi * turns * x + phase)
        pixels[y > dune[None, :]] = colour
    return _grain(pixels, rng, strength=16, cell=2)


def _bricks(height: int, width: int, rng: np.random.Generator) -> Pixels:
    row = max(int(min(height, width) * rng.uniform(0.08, 0.11)), 5)
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    level = y // row
    along = x + (level % 2) * row
    tone = rng.uniform(-12, 12, (height // row + 1, (width + row) // (2 * row) + 1))
    pixels = _flat(height, width, (158, 84, 66)) + tone[level, along // (2 * row)][..., None]
    pixels[(y % row < 2) | (along % (2 * row) < 2)] = (178, 128, 110)
    return _grain(pixels.astype(np.float32), rng, strength=22, cell=2)


def _table(height: int, width: int, rng: np.random.Generator) -> Pixels:
    plank = max(int(height * rng.uniform(0.18, 0.26)), 8)
    y = np.arange(height)
    tone = rng.uniform(-14, 14, height // plank + 1)[y // plank]
    grain = soft_noise((height, width), (max(height // 2, 2), 4), rng)
    pixels = (
        _flat(height, width, (182, 134, 86)) + tone[:, None, None] + 30 * (grain[..., None] - 0.5)
    )
    pixels[y % plank < 2] = (146, 104, 64)
    return pixels.astype(np.float32)


def _underwater(height: int, width: int, rng: np.random.Generator) -> Pixels:
    pixels = _fade(height, width, (96, 190, 206), (16, 78, 116))
    rays = soft_noise((height, width), (2, 9), rng)
    canvas = Image.fromarray(
        np.clip(pixels + 36 * (rays[..., None] - 0.5), 0, 255).astype(np.uint8)
    )
    pen = ImageDraw.Draw(canvas)
    for _ in range(14):
        x, y = rng.integers(0, width), rng.integers(0, height)
        r = int(rng.integers(2, max(min(height, width) // 24, 4)))
        pen.ellipse((int(x) - r, int(y) - r, int(x) + r, int(y) + r), outline=(186, 226, 232))
    return np.asarray(canvas, dtype=np.float32)


def _wallpaper(height: int, width: int, rng: np.random.Generator) -> Pixels:
    band = max(int(width * rng.uniform(0.07, 0.1)), 4)
    pixels = _flat(height, width, (240, 230, 224))
    pixels[:, (np.arange(width) // band) % 2 == 0] = (228, 212, 212)
    return _grain(pixels, rng, strength=8)


BACKGROUNDS: dict[str, Background] = {
    "cream": _paper((244, 234, 208)),
    "pale grey": _paper((208, 210, 212)),
    "dark grey": _paper((70, 72, 76)),
    "pale blue": _paper((190, 214, 238)),
    "checkered": _checkered,
    "gradient": _gradient,
    "tiles": _tiles,
    "night": _night,
    "snow": _snow,
    "beach": _beach,
    "meadow": _meadow,
    "desert": _desert,
    "bricks": _bricks,
    "table": _table,
    "underwater": _underwater,
    "wallpaper": _wallpaper,
}
