"""Opening images of unknown origin: inside their root, of known formats, as upright RGB.

What the formats hold becomes RGB of 8 bits by these rules:

    greyscale, 1 bit, palette    their colours
    CMYK, YCCK, YCbCr, LAB       converted; a profile that came with the picture is not applied
    16 bits a channel            the upper 8 of them: scaled, not clipped
    9 to 15 bits (TIFF)          the upper 8 of those
    transparency                 composed on white
    animation, several pages     the first
    EXIF orientation             applied; where the EXIF is broken, left alone
    broken profile, broken EXIF  left alone
    32-bit integers              as 16 bits where all of them fit; else rejected by name
    floating point               rejected by name: nothing tells the range

Imports Pillow alone, for worker processes start with it; numpy comes with a picture of 16 bits.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

if TYPE_CHECKING:  # places.py imports pandas, which a worker process can do without
    from pipeline.data.places import Place

FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    GifImagePlugin.GifImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
)
"""Their import registers them; to register all that Pillow knows takes each worker 0.1 s more."""

# Limits are params, and checked before a pixel is decoded; Pillow's own are a fixed constant that
# warns first and would reject at a later stage what a user's params let pass.
Image.MAX_IMAGE_PIXELS = None

WHITE = (255, 255, 255, 255)
PLAIN = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
"""Modes that Pillow converts to RGB without loss of range."""

Least = Callable[[int, int], tuple[int, int]]
"""From a picture's width and height to those that decoding must leave of them."""

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (EXIF 2.32, tag 0x0112); 1 is upright already."""

SIDEWAYS = frozenset({5, 6, 7, 8})
"""Orientations by which width and height change places."""

FROM_RIGHT, FROM_BELOW = frozenset({2, 3, 6, 7}), frozenset({3, 4, 7, 8})
"""Orientations by which what was stored last along an axis comes first across, or down."""

_PNG = b"\x89PNG\r\n\x1a\n"
_DESCRIPTIVE = frozenset({b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"})


class Reduced(NamedTuple):
    """An upright picture, the size of the whole before decoding scaled it, and its orientation.

    A side that the scale does not divide is rounded up; the surplus lies at the end of the axis as
    it was stored, which is the beginning where the orientation turned it round.
    """

    picture: Image.Image
    width: int
    height: int
    orientation: int


class UnsupportedModeError(OSError):
    """A picture whose pixels can't be mapped to RGB; its message is the mode's name."""


def inside(root: Path, relative: str) -> Path | None:
    """The path of `relative` under `root`, or None when it leads out, by `..`, root or link."""
    try:
        path = Path(os.path.realpath(root / relative))
    except (ValueError, OSError):  # a NUL in the name, a name too long
        return None
    return path if path.is_relative_to(os.path.realpath(root)) else None


def open_image(place: Place) -> Image.Image:
    """The decoded picture at `place`, upright, RGB; OSError where there is none."""
    return open_reduced(place, None).picture


def open_reduced(place: Place, least: Least | None) -> Reduced:
    """The decoded picture at `place`, upright, RGB, and what it is a reduction of.

    A JPEG may come decoded at 1/2, 1/4 or 1/8 of the whole, as long as the width and height that
    `least` names are left of it. Raises OSError where there is no picture.
    """
    content = place.read()
    try:
        with opened(content) as picture:
            width, height = picture.size
            if least is not None:
                reduce(picture, least(width, height))
            picture.load()
            turned = orientation(picture)
            if turned in SIDEWAYS:
                width, height = height, width
            return Reduced(to_rgb(upright(picture)), width, height, turned)
    except OSError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes
        raise OSError(f"{type(error).__name__}: {error}") from error


def opened(content: bytes) -> Image.Image:
    """The picture in these bytes, its header read and no pixel decoded.

    A PNG whose profile, EXIF or text stops Pillow is opened without them.
    """
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception:
        if not content.startswith(_PNG):
            raise
        return Image.open(io.BytesIO(_undescribed(content)), formats=FORMATS)


def reduce(picture: Image.Image, size: tuple[int, int]) -> None:
    """Have an opened JPEG decoded at the smallest of 1, 1/2, 1/4, 1/8 that leaves `size` of it.

    The scale is that of JPEG's inverse cosine transform. Other formats are left alone.
    """
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        picture.draft(None, size)


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation of a loaded picture, 1…8; 1 where there is none that can be read."""
    try:
        said = picture.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # Pillow's EXIF reader raises whatever a broken block provokes
        return 1
    return said if isinstance(said, int) and said in UPRIGHT else 1


def upright(picture: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation says, or as it is where the EXIF can't be read."""
    turn = UPRIGHT.get(orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def to_rgb(picture: Image.Image) -> Image.Image:
    """A decoded picture as RGB of 8 bits, by the rules above; UnsupportedModeError by name."""
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    if picture.mode not in PLAIN and not picture.has_transparency_data:
        raise UnsupportedModeError(picture.mode)
    if picture.has_transparency_data:
        layers = _layers(picture)
        ground = Image.new("RGBA", layers.size, WHITE)
        return Image.alpha_composite(ground, layers).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _layers(picture: Image.Image) -> Image.Image:
    """The picture as RGBA; of a transparent colour named in 16 bits (PNG), the upper 8 count."""
    colour = picture.info.get("transparency")
    if picture.mode == "RGB" and isinstance(colour, tuple) and max(colour) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in colour)
    return picture.convert("RGBA")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """The upper 8 bits of 16, or of as many as a TIFF says it has.

    Pillow's own conversion would turn all values above 255 white.
    """
    import numpy as np  # noqa: PLC0415  (rarely needed, and a third of a worker's start)

    values = np.asarray(picture)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UnsupportedModeError(picture.mode)
    grey = Image.fromarray((values.astype(np.uint16) >> (_bits(picture) - 8)).astype(np.uint8))
    colour = picture.info.get("transparency")
    if isinstance(colour, int):
        grey.putalpha(Image.fromarray(np.where(values == colour, 0, 255).astype(np.uint8)))
    return grey


def _bits(picture: Image.Image) -> int:
    """Bits of a sample: 16, unless a TIFF says 9 to 15."""
    said = picture.tag_v2.get(258, (16,)) if hasattr(picture, "tag_v2") else (16,)
    bits = said[0] if isinstance(said, tuple) and said else 16
    return bits if isinstance(bits, int) and 8 < bits < 16 else 16


def _undescribed(content: bytes) -> bytes:
    """A PNG without the chunks that describe it; they change no pixel."""
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] not in _DESCRIPTIVE:
            kept.append(content[at:end])
        at = end
    return b"".join(kept)
