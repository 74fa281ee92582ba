"""What a signature keeps, and what it does not depend on."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.signatures import COLOUR_SIDE, SIDE, SIZE, signature
from pipeline.duplicates.planes import planes, stack


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([x, y, (x + y) / 2], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


@given(st.integers(1, 90), st.integers(1, 90))
def test_any_size_has_the_same_length(width: int, height: int) -> None:
    assert len(signature(gradient(width, height))) == SIZE


def test_a_plain_colour_by_hand() -> None:
    # JPEG: Y = 0.299·255 = 76.2, Cb = 128 - 0.168736·255 = 84.97, Cr = 128 + 0.5·255 = 255.5;
    # Pillow cuts the fractions off.
    luma, blue, red = planes(stack([signature(Image.new("RGB", (640, 480), (255, 0, 0)))]))
    assert luma.shape == (1, SIDE, SIDE)
    assert blue.shape == red.shape == (1, COLOUR_SIDE, COLOUR_SIDE)
    assert (np.unique(luma), np.unique(blue), np.unique(red)) == ([76], [84], [255])


def test_planes_are_upright_and_unmixed() -> None:
    picture = Image.new("RGB", (64, 64), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 64, 32))
    luma, blue, red = planes(stack([signature(picture)]))
    assert (luma[0, :12] == 255).all()
    assert (luma[0, 20:] == 0).all()
    assert (blue == 128).all()
    assert (red == 128).all()


def test_what_is_reencoded_stays_within_a_few_levels() -> None:
    picture = gradient(640, 480)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=60)
    rows = stack([signature(picture), signature(Image.open(stream))])
    assert np.abs(rows[0].astype(int) - rows[1]).max() <= 4


def test_lossless_copies_have_the_same_signature() -> None:
    picture = gradient(301, 207)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    assert signature(Image.open(stream)) == signature(picture)


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="mode L"):
        signature(Image.new("L", (64, 64)))


def test_a_signature_of_another_length_is_named() -> None:
    with pytest.raises(ValueError, match=f"signature 1 has 3 bytes, not {SIZE}"):
        stack([bytes(SIZE), b"old"])


def test_no_signatures_are_no_rows() -> None:
    assert stack([]).shape == (0, SIZE)
