"""Small real pictures that tests draw, and where the repository lies."""

from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 200), "grey": (90,) * 3}


def draw(path: Path, colour: tuple[int, int, int], *, seed: int = 0, size: tuple[int, int]) -> None:
    """A noisy JPEG or PNG of one colour; another seed is another picture."""
    noise = np.random.default_rng(seed).integers(-25, 26, size=(*size[::-1], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
