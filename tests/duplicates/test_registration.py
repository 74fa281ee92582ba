"""Similarity of two signatures: what moves and lights up is alike, what differs is not."""

import numpy as np
from PIL import Image

from pipeline.data.signatures import signature
from pipeline.duplicates import registration
from pipeline.duplicates.planes import stack
from pipeline.duplicates.registration import similarities


def blobs(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(20, 220, size=(7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)


ROWS = stack([signature(blobs(seed)) for seed in range(600)])


def test_a_picture_is_wholly_like_itself() -> None:
    assert (similarities(ROWS[:50], ROWS[:50]) == 1).all()


def test_unrelated_pictures_are_not_alike() -> None:
    assert similarities(ROWS[:300], ROWS[300:]).max() < 0.7


def test_it_is_symmetric() -> None:
    one, two = ROWS[:100], ROWS[100:200]
    assert (similarities(one, two) == similarities(two, one)).all()


def test_it_does_not_depend_on_the_other_pairs() -> None:
    one, two = ROWS[:300], np.clip(ROWS[:300].astype(int) + 9, 0, 255).astype(np.uint8)
    together = similarities(one, two)
    assert together.tolist() == [
        float(similarities(one[i : i + 1], two[i : i + 1])[0]) for i in range(300)
    ]


def test_the_move_is_measured() -> None:
    # The copy lacks 5 % at the left and 3 % at the top: what is left is 0.95 and 0.97 of a side.
    pictures = [blobs(seed) for seed in range(20)]
    whole = stack([signature(picture) for picture in pictures])
    cropped = stack([signature(picture.crop((16, 7, 320, 240))) for picture in pictures])
    planes = (registration.planes(rows)[0].astype(np.float32) for rows in (whole, cropped))
    move = registration._register(*planes)
    width, height = 304 / 320, 233 / 240
    expected = [width, (1 - width) / 2, height, (1 - height) / 2]
    assert np.abs(move - expected).max() < 0.004


def test_both_may_be_cropped() -> None:
    pictures = [blobs(seed) for seed in range(20)]
    left = stack([signature(picture.crop((14, 0, 320, 240))) for picture in pictures])
    right = stack([signature(picture.crop((0, 0, 306, 232))) for picture in pictures])
    assert similarities(left, right).min() >= 0.9


def test_what_is_clipped_at_white_is_like_what_is_not() -> None:
    # A light picture, brightened by a fifth: about a quarter of its pixels end at 255.
    for seed in range(10):
        pixels = np.asarray(blobs(seed)).astype(float) * 0.5 + 130
        one, two = (
            Image.fromarray(np.clip(pixels * gain, 0, 255).astype(np.uint8)) for gain in (1, 1.2)
        )
        assert (np.asarray(two) == 255).mean() > 0.05
        assert similarities(stack([signature(one)]), stack([signature(two)]))[0] >= 0.9


def test_no_pairs() -> None:
    assert similarities(ROWS[:0], ROWS[:0]).shape == (0,)
