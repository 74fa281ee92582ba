"""What is kept of a picture so that its near-duplicates can be found without its pixels.

A signature is the picture itself, 32×32, stretched to a square: 1,024 bytes of luma, then 256 each
of the two colour differences at 16×16 (JPEG's YCbCr and its 4:2:0 layout). Hashes and comparisons
are computed from it (pipeline/duplicates), so that they can change without decoding anything again.
Stretching makes a cropped or rescaled copy differ by a scale and a shift along each axis alone.

32 a side is measured: at 24 the copies cropped by 5 % were recognised in 97 of 100 cases at the
precision at which 32 recognises 99, as fine texture leaves too much behind after registration.
"""

from PIL import Image

SIDE = 32
COLOUR_SIDE = SIDE // 2
SIZE = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE
"""Bytes of a signature."""


def signature(picture: Image.Image) -> bytes:
    """The `SIZE` bytes of an upright RGB picture of any size.

    Pillow reduces 8-bit pictures in integers, so every machine with the same Pillow returns the
    same bytes for the same pixels. ValueError where the picture is not RGB.
    """
    if picture.mode != "RGB":
        raise ValueError(f"a signature is of an RGB picture, not of mode {picture.mode}")
    # A triangle filter, not a box: what a crop shifts by part of a pixel stays comparable.
    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    luma, blue, red = small.convert("YCbCr").split()
    half = (COLOUR_SIDE, COLOUR_SIDE)
    colours = (band.resize(half, Image.Resampling.BOX).tobytes() for band in (blue, red))
    return b"".join((luma.tobytes(), *colours))
