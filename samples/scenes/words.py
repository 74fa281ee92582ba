"""What can be in a picture and what it is called; which part of it each slice of the world knows.

Two slices overlap in part: the base model learns one, the sample data set is the other. So the base
model knows some of the sample's classes, and forgets some of its own when it is fine-tuned.
"""

from dataclasses import dataclass
from typing import Literal

SliceName = Literal["base", "sample"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 40),
    "orange": (245, 138, 30),
    "yellow": (246, 214, 50),
    "green": (42, 150, 62),
    "blue": (38, 84, 200),
    "purple": (122, 50, 160),
    "pink": (244, 140, 184),
    "black": (28, 28, 32),
    "white": (246, 246, 244),
    "turquoise": (44, 196, 190),
}

COLOUR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("scarlet", "crimson"),
    "orange": ("tangerine",),
    "yellow": ("lemon yellow",),
    "green": ("emerald",),
    "blue": ("cobalt blue",),
    "purple": ("violet",),
    "pink": ("rose-coloured",),
    "black": ("jet black",),
    "white": ("snow-white",),
    "turquoise": ("aqua",),
}

PLURALS: dict[str, str] = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "cross": "crosses",
    "ring": "rings",
    "crescent": "crescents",
    "flower": "flowers",
    "drop": "drops",
    "fish": "fish",
}

SHAPE_SYNONYMS: dict[str, tuple[str, str]] = {
    "circle": ("disc", "discs"),
    "ring": ("hoop", "hoops"),
    "drop": ("teardrop", "teardrops"),
    "flower": ("blossom", "blossoms"),
}

MATERIAL_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "matte": ("matte", "plain"),
    "glossy": ("glossy", "shiny"),
    "striped": ("striped", "stripy"),
    "spotted": ("spotted", "dotted"),
    "wooden": ("wooden",),
    "metal": ("metal", "metallic"),
    "woolly": ("woolly", "fluffy"),
}

MATERIAL_PHRASES: dict[str, tuple[str, ...]] = {
    "matte": ("without any pattern",),
    "glossy": ("with a glossy finish",),
    "striped": ("with stripes",),
    "spotted": ("covered in spots",),
    "wooden": ("made of wood", "carved from wood"),
    "metal": ("made of brushed metal",),
    "woolly": ("made of wool",),
}

SIZE_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("",),
    "large": ("large", "big", "huge"),
}

POSITION_PHRASES: dict[str, tuple[str, ...]] = {
    "centre": ("in the middle", "in the centre"),
    "left": ("on the left", "to the left"),
    "right": ("on the right", "to the right"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
}

COUNTS: dict[int, tuple[str, ...]] = {
    1: ("a",),
    2: ("two", "a pair of"),
    3: ("three",),
}

BACKGROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "cream": ("on a cream background", "on cream paper"),
    "pale grey": ("on a pale grey background", "against light grey"),
    "dark grey": ("on a dark grey background", "against charcoal"),
    "pale blue": ("on a pale blue background", "against light blue"),
    "checkered": ("on a checkered cloth", "on a checked pattern"),
    "gradient": ("on a fading background", "against a soft gradient"),
    "tiles": ("on bathroom tiles", "on a tiled wall"),
    "night": ("under a night sky", "among the stars at night"),
    "snow": ("in the snow", "on a snowy day"),
    "beach": ("on a beach", "by the sea", "on the sand at the seaside"),
    "meadow": ("in a meadow", "on the grass", "in a green field"),
    "desert": ("in the desert", "among the dunes"),
    "bricks": ("in front of a brick wall", "on a brick wall"),
    "table": ("on a wooden table", "lying on a table"),
    "underwater": ("under water", "deep in the sea"),
    "wallpaper": ("on striped wallpaper", "on a wall with stripes"),
}

HIDDEN_ON: dict[str, frozenset[str]] = {
    "cream": frozenset({"white", "yellow"}),
    "pale grey": frozenset({"white"}),
    "dark grey": frozenset({"black"}),
    "pale blue": frozenset({"white", "turquoise"}),
    "checkered": frozenset({"white"}),
    "gradient": frozenset({"white"}),
    "tiles": frozenset({"white"}),
    "night": frozenset({"black", "purple"}),
    "snow": frozenset({"white"}),
    "beach": frozenset({"yellow", "white"}),
    "meadow": frozenset({"green"}),
    "desert": frozenset({"orange", "yellow"}),
    "bricks": frozenset({"red"}),
    "table": frozenset({"orange"}),
    "underwater": frozenset({"blue", "turquoise", "green"}),
    "wallpaper": frozenset({"white", "pink"}),
}
"""Colours that would hardly show on a background, and are never put there."""


@dataclass(frozen=True)
class Slice:
    """A part of the world: what occurs in its pictures and how its captions are built."""

    colours: tuple[str, ...]
    shapes: tuple[str, ...]
    materials: tuple[str, ...]
    backgrounds: tuple[str, ...]
    phrasings: tuple[str, ...]


SLICES: dict[SliceName, Slice] = {
    "base": Slice(
        colours=("red", "yellow", "green", "blue", "orange", "pink", "purple", "black", "white"),
        shapes=(
            "star",
            "heart",
            "cross",
            "ring",
            "crescent",
            "fish",
            "circle",
            "square",
            "triangle",
        ),
        materials=("matte", "glossy", "striped", "metal"),
        backgrounds=(
            *("cream", "dark grey", "night", "snow", "wallpaper", "bricks", "table"),
            *("pale grey", "pale blue", "checkered", "gradient", "tiles"),
        ),
        phrasings=("plain", "photo", "name", "picture", "there_is", "place_last"),
    ),
    "sample": Slice(
        colours=("red", "yellow", "green", "blue", "orange", "pink", "purple", "turquoise"),
        shapes=("star", "heart", "cross", "ring", "crescent", "flower", "drop", "fish"),
        materials=("matte", "glossy", "striped", "spotted", "wooden", "woolly"),
        backgrounds=(
            *("cream", "dark grey", "night", "snow", "wallpaper", "bricks", "table"),
            *("beach", "meadow", "desert", "underwater"),
        ),
        phrasings=("plain", "photo", "name", "place_first", "seen", "post", "tags", "story"),
    ),
}
