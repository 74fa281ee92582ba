"""One picture's content, drawn by lot: the same for the same seed, slice and index, always."""

import random
from dataclasses import dataclass

from samples.scenes.words import HIDDEN_ON, SLICES, SliceName

SIDES = (128, 144, 160, 176, 192, 208, 224, 256)
"""Pixels of the shorter side."""

ASPECTS = (1.0, 1.0, 4 / 3, 3 / 4, 5 / 4, 4 / 5, 3 / 2)


@dataclass(frozen=True)
class Scene:
    """What is in a picture; `width` and `height` in pixels, `seed` for all that has no name."""

    colour: str
    shape: str
    material: str
    background: str
    size: str
    position: str
    count: int
    width: int
    height: int
    seed: int

    @property
    def label(self) -> str:
        """The class, as prompts name it."""
        return f"{self.colour} {self.shape}"


def lot(*parts: object) -> random.Random:
    """A random generator of its own for anything that `parts` name."""
    return random.Random("/".join(str(part) for part in parts))


def make_scene(seed: int, index: int, *, world: SliceName, sides: tuple[int, ...] = SIDES) -> Scene:
    """Picture `index` of a slice; indices of one slice and seed never share a lot."""
    part, draw = SLICES[world], lot(seed, world, index, "scene")
    colour = draw.choice(part.colours)
    count = draw.choices((1, 2, 3), weights=(36, 3, 1))[0]
    size = draw.choice(("small", "medium", "large") if count == 1 else ("small", "medium"))
    single_free = count == 1 and size != "large"
    short, aspect = draw.choice(sides), draw.choice(ASPECTS)
    return Scene(
        colour=colour,
        shape=draw.choice(part.shapes),
        material=draw.choice(part.materials),
        background=draw.choice([b for b in part.backgrounds if colour not in HIDDEN_ON[b]]),
        size=size,
        position=draw.choice(("centre", "left", "right", "top", "bottom"))
        if single_free
        else "centre",
        count=count,
        width=round(short * max(aspect, 1)),
        height=round(short * max(1 / aspect, 1)),
        seed=draw.getrandbits(32),
    )
