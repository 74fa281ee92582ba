"""Files that are broken, odd, or a copy of another: a scene → the bytes that stand on disk."""

import io
import random
import struct
from collections.abc import Callable
from typing import Literal, get_args

from PIL import Image, ImageEnhance

from samples.scenes.render import jpeg, photograph, render
from samples.scenes.scene import Scene

Broken = Literal[
    "truncated_jpeg",
    "zero_bytes",
    "png_as_jpg",
    "text_as_jpg",
    "one_pixel",
    "huge_dimensions",
    "missing_file",
]
Copy = Literal[
    "exact_copy",
    "reencoded_copy",
    "rescaled_copy",
    "cropped_copy",
    "brightness_copy",
]
Treatment = Literal["none"] | Broken | Copy

BROKEN: tuple[Treatment, ...] = get_args(Broken)
COPIES: tuple[Treatment, ...] = get_args(Copy)

HUGE = 60_000
"""Pixels a side that a decompression bomb claims: 10.8 GB once decoded."""

NOT_FOUND = """<!DOCTYPE html>
<html><head><title>404 Not Found</title></head>
<body><h1>Not Found</h1><p>The requested picture was not found on this server.</p></body></html>
"""


def amount(treatment: Treatment, draw: random.Random) -> float:
    """How much of a treatment, by lot: a share, a factor or a JPEG quality; 0 where it has none."""
    sign = draw.choice((-1, 1))
    ranges = {
        "truncated_jpeg": (0.3, 0.8),
        "reencoded_copy": (50, 75),
        "rescaled_copy": (0.7, 0.9) if sign < 0 else (1.1, 1.3),
        "cropped_copy": (0.02, 0.05),
        "brightness_copy": (0.8, 0.93) if sign < 0 else (1.07, 1.2),
    }
    return round(draw.uniform(*ranges[treatment]), 2) if treatment in ranges else 0.0


def describe(treatment: Treatment, much: float) -> str:
    """The treatment in words, for the ground truth."""
    words = {
        "truncated_jpeg": f"cut after {much:.0%} of its bytes",
        "zero_bytes": "0 bytes",
        "png_as_jpg": "a PNG named .jpg: harmless",
        "text_as_jpg": "an HTML page",
        "one_pixel": "1x1",
        "huge_dimensions": f"{HUGE}x{HUGE}",
        "missing_file": "no such file",
        "reencoded_copy": f"quality {much:.0f}",
        "rescaled_copy": f"sides x {much}",
        "cropped_copy": f"{much:.0%} of each side cut off",
        "brightness_copy": f"brightness x {much}",
    }
    return words[treatment]


def content(scene: Scene, treatment: Treatment, much: float) -> bytes | None:
    """The bytes of a scene's file after its treatment; None where there is no file."""
    return TREATMENTS[treatment](scene, much)


def _truncated(scene: Scene, share: float) -> bytes:
    whole = photograph(scene)
    return whole[: round(len(whole) * share)]


def _png(scene: Scene, _: float) -> bytes:
    stream = io.BytesIO()
    render(scene).save(stream, "PNG")
    return stream.getvalue()


def _one_pixel(scene: Scene, _: float) -> bytes:
    return jpeg(render(scene).resize((1, 1)), quality=90)


def _huge(scene: Scene, _: float) -> bytes:
    """A small JPEG whose frame header claims enormous sides."""
    whole = jpeg(render(scene), quality=80)
    frame = whole.index(b"\xff\xc0")
    return whole[: frame + 5] + struct.pack(">HH", HUGE, HUGE) + whole[frame + 9 :]


def _original(scene: Scene) -> Image.Image:
    """The picture as its file holds it, after its own JPEG compression."""
    return Image.open(io.BytesIO(photograph(scene)))


def _rescaled(scene: Scene, factor: float) -> bytes:
    picture = _original(scene)
    size = round(picture.width * factor), round(picture.height * factor)
    return jpeg(picture.resize(size, Image.Resampling.LANCZOS), quality=88)


def _cropped(scene: Scene, share: float) -> bytes:
    """Off the left and the top, so that the middle moves."""
    picture = _original(scene)
    left, top = int(picture.width * share), int(picture.height * share)
    return jpeg(picture.crop((left, top, picture.width, picture.height)), quality=88)


def _brightened(scene: Scene, factor: float) -> bytes:
    return jpeg(ImageEnhance.Brightness(_original(scene)).enhance(factor), quality=88)


TREATMENTS: dict[Treatment, Callable[[Scene, float], bytes | None]] = {
    "none": lambda scene, _: photograph(scene),
    "truncated_jpeg": _truncated,
    "zero_bytes": lambda *_: b"",
    "png_as_jpg": _png,
    "text_as_jpg": lambda *_: NOT_FOUND.encode(),
    "one_pixel": _one_pixel,
    "huge_dimensions": _huge,
    "missing_file": lambda *_: None,
    "exact_copy": lambda scene, _: photograph(scene),
    "reencoded_copy": lambda scene, quality: jpeg(_original(scene), quality=round(quality)),
    "rescaled_copy": _rescaled,
    "cropped_copy": _cropped,
    "brightness_copy": _brightened,
}
