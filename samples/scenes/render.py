"""A scene → its picture, and a picture → the bytes of its file."""

import io
import random

import numpy as np
from PIL import Image, ImageFilter

from samples.scenes.backgrounds import BACKGROUNDS
from samples.scenes.scene import Scene, lot
from samples.scenes.shapes import mask
from samples.scenes.surfaces import paint
from samples.scenes.words import COLOURS

SIZES = {"small": (0.46, 0.52), "medium": (0.62, 0.7), "large": (0.8, 0.9)}
"""Side of an object's square, in shares of the picture's shorter side."""

TOGETHER = {1: 1.0, 2: 0.78, 3: 0.66}
"""Objects shrink when there are several."""

PLACES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.0, 0.0),),
    2: ((-0.24, 0.02), (0.24, -0.02)),
    3: ((-0.24, 0.18), (0.24, 0.18), (0.0, -0.22)),
}
"""Centres of several objects from the picture's middle, in shares of the shorter side."""

DIRECTIONS = {"centre": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


def render(scene: Scene) -> Image.Image:
    """Draw a scene, RGB. All objects lie within the central square, which a centre crop keeps."""
    draw = lot(scene.seed, "render")
    rng = np.random.default_rng(scene.seed)
    ground = BACKGROUNDS[scene.background](scene.height, scene.width, rng)
    canvas = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    short = min(scene.width, scene.height)
    for place in PLACES[scene.count]:
        share = draw.uniform(*SIZES[scene.size]) * TOGETHER[scene.count]
        right, down = _offset(scene.position, share, draw)
        x = scene.width / 2 + short * (place[0] + right)
        y = scene.height / 2 + short * (place[1] + down)
        _put_object(canvas, scene, (x, y), side=round(short * share), draw=draw, rng=rng)
    return canvas


def _offset(position: str, share: float, draw: random.Random) -> tuple[float, float]:
    """From the middle to where the object stands, in shares of the shorter side."""
    room = (1 - share) / 2
    right, down = DIRECTIONS[position]
    wobble = 0.03
    far = draw.uniform(0.7, 0.95) * room
    return far * right + draw.uniform(-wobble, wobble), far * down + draw.uniform(-wobble, wobble)


def _put_object(
    canvas: Image.Image,
    scene: Scene,
    centre: tuple[float, float],
    *,
    side: int,
    draw: random.Random,
    rng: np.random.Generator,
) -> None:
    cover = mask(scene.shape, side=side, degrees=draw.uniform(-10, 10), mirror=draw.random() < 0.5)
    left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
    blur = max(side / 28, 1)
    shadow = cover.point(_SHADOW).filter(ImageFilter.BoxBlur(blur))
    drop = max(side // 24, 1)
    canvas.paste((16, 14, 18), (left + drop, top + drop), shadow)
    canvas.paste(
        paint(_tinted(scene.colour, draw), scene.material, side=side, rng=rng), (left, top), cover
    )


_SHADOW = [value * 2 // 5 for value in range(256)]


def _tinted(colour: str, draw: random.Random) -> tuple[int, int, int]:
    """A colour as it comes out this time: a little lighter, darker or off."""
    light = draw.uniform(0.9, 1.06)
    red, green, blue = (
        min(max(round(value * light + draw.uniform(-7, 7)), 0), 255) for value in COLOURS[colour]
    )
    return red, green, blue


def jpeg(picture: Image.Image, *, quality: int, progressive: bool = False) -> bytes:
    """A picture as the bytes of a JPEG file."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, progressive=progressive)
    return stream.getvalue()


def photograph(scene: Scene) -> bytes:
    """A scene as a JPEG file, its quality and kind by lot."""
    draw = lot(scene.seed, "file")
    quality, progressive = draw.randint(80, 94), draw.random() < 0.1
    return jpeg(render(scene), quality=quality, progressive=progressive)
