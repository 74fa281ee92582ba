"""Opening images of unknown origin: inside their root, within limits, decoded to the last byte."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from pipeline.params import ValidateParams

Image.init()  # Pillow registers half of these only when asked, and then misses them in `formats`
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# Limits are params, and checked here before a pixel is decoded; Pillow's own are a fixed constant
# that warns first and would reject at a later stage what a user's params let pass.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class ImageFacts:
    """What was found of an image: its facts, or else the `problem` (a reason) and its `value`."""

    image_id: str = ""
    width: int = 0
    height: int = 0
    problem: str | None = None
    value: str | None = None


def inside(root: Path, relative: str) -> Path | None:
    """The path of `relative` under `root`, or None when it leads out, by `..`, root or link."""
    try:
        path = Path(os.path.realpath(root / relative))
    except ValueError:  # a NUL in the name
        return None
    return path if path.is_relative_to(os.path.realpath(root)) else None


def open_image(path: Path) -> Image.Image:
    """The decoded picture, upright as its EXIF orientation says; OSError where it can't be."""
    with Image.open(path, formats=FORMATS) as picture:
        picture.load()
        return ImageOps.exif_transpose(picture)


def inspect(root: Path, relative: str, limits: ValidateParams) -> ImageFacts:
    """Hash, measure and decode the image at `relative`; what is wrong comes back as a reason."""
    path = inside(root, relative)
    if path is None:
        return ImageFacts(problem="image_outside_root", value=relative)
    if not path.is_file():
        return ImageFacts(problem="image_missing", value=relative)
    size = path.stat().st_size
    if size == 0:
        return ImageFacts(problem="image_empty", value=relative)
    if size > limits.max_bytes:
        return ImageFacts(problem="image_too_many_bytes", value=f"{size} bytes")
    return _decode(path, relative, limits)


def _decode(path: Path, relative: str, limits: ValidateParams) -> ImageFacts:
    try:
        with Image.open(path, formats=FORMATS) as header:
            width, height = header.size
            if width * height > limits.max_pixels:
                return ImageFacts(problem="image_too_many_pixels", value=f"{width}x{height}")
            header.load()
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes
        problem = "image_truncated" if "truncated" in str(error).lower() else "image_unreadable"
        said = f"{type(error).__name__}: {error}".replace(str(path), relative)
        return ImageFacts(problem=problem, value=said[:200])
    if min(width, height) < limits.min_side:
        return ImageFacts(problem="image_too_small", value=f"{width}x{height}")
    if max(width, height) > limits.max_aspect * min(width, height):
        return ImageFacts(problem="image_too_narrow", value=f"{width}x{height}")
    content = path.read_bytes()
    return ImageFacts(image_id=hashlib.sha256(content).hexdigest(), width=width, height=height)
