"""Hashes of pictures and of their crops, and the index that finds candidates by them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.signatures import SIZE, signature
from pipeline.duplicates.hashes import COLOUR, CUT, LUMA, ORDER, VIEWS, hashes
from pipeline.duplicates.index import MOST_BITS, NEAR, NEAREST, candidates
from pipeline.duplicates.planes import Signatures, stack


def blobs(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(20, 220, size=(7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)


def many(count: int) -> Signatures:
    return stack([signature(blobs(seed)) for seed in range(count)])


def bits(one: NDArray[np.uint64], two: NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(one ^ two).min())


def test_a_hash_has_64_bits_each_used_once() -> None:
    assert len(LUMA) + 2 * len(COLOUR) == 64
    assert sorted(ORDER) == list(range(64))


def test_the_first_view_is_the_whole_picture() -> None:
    rows = many(20)
    views = hashes(rows, views=True)
    assert views.shape == (20, VIEWS)
    assert (views[:, :1] == hashes(rows, views=False)).all()


def test_a_cosine_along_x_sets_the_bit_of_its_sign() -> None:
    row = np.full((2, SIZE), 128, np.uint8)
    wave = np.rint(60 * np.cos(np.pi * 2 * (np.arange(32) + 0.5) / 32))
    row[:, :1024] = [np.tile(128 + wave, 32), np.tile(128 - wave, 32)]
    found = [int(value) for value in hashes(row, views=False)[:, 0]]
    of = [ORDER.index(bit) for bit in range(len(LUMA))]
    assert [value >> of[LUMA.index((0, 2))] & 1 for value in found] == [1, 0]
    # Nothing changes along y, and what is odd along x cancels: those bits are 0.
    silent = [of[bit] for bit, (y, x) in enumerate(LUMA) if y or x % 2]
    assert [value >> bit & 1 for value in found for bit in silent] == [0] * 2 * len(silent)


def test_brightness_changes_no_bit() -> None:
    rows = many(20)
    dark = rows.copy()
    dark[:, :1024] = np.rint(rows[:, :1024] * 0.8)
    changed = np.bitwise_count(hashes(rows, views=False) ^ hashes(dark, views=False))
    assert changed.mean() < 0.5


def test_pictures_without_structure_have_one_hash() -> None:
    rows = np.full((50, SIZE), 128, np.uint8)
    rows[:, :1024] = np.linspace(0, 255, 50).astype(np.uint8)[:, None]
    assert len(np.unique(hashes(rows, views=True))) == 1


def test_a_crop_has_the_hash_of_a_view() -> None:
    for seed in range(10):
        picture = blobs(seed)
        # 5 % off the left, 2.5 % off the bottom: one of the views, but for the pixel grid.
        cropped = hashes(stack([signature(picture.crop((16, 0, 320, 234)))]), views=False)[0]
        views = hashes(stack([signature(picture)]), views=True)[0]
        assert bits(views, cropped) <= 2
        assert CUT == (0.0, 0.025, 0.05)


def test_hashes_do_not_depend_on_what_else_is_hashed() -> None:
    rows = many(40)
    one_by_one = [hashes(rows[i : i + 1], views=True) for i in range(40)]
    assert (np.concatenate(one_by_one) == hashes(rows, views=True)).all()


def test_candidates_are_the_near_hashes_of_all_pairs() -> None:
    crops = [signature(blobs(i).crop((9, 7, 311, 230))) for i in range(0, 60, 3)]
    rows = np.concatenate([many(60), stack(crops)])
    found = {tuple(pair) for pair in candidates(rows).tolist()}
    whole, views = hashes(rows, views=False)[:, 0], hashes(rows, views=True)
    distance = np.bitwise_count(views[:, :, None] ^ whole).min(axis=1)
    distance = np.minimum(distance, distance.T)
    near = {(a, b) for a, b in np.argwhere(distance <= MOST_BITS).tolist() if a < b}
    # Every pair found is near; three thirds can't miss what differs in two bits.
    surely = {(a, b) for a, b in np.argwhere(distance <= 2).tolist() if a < b}
    assert surely <= found <= near
    assert {(3 * i, 60 + i) for i in range(20)} <= found


def test_a_bucket_of_equal_hashes_is_chained() -> None:
    count = 5_000
    rows = np.full((count, SIZE), 128, np.uint8)
    rows[:, : count // 256 + 1] = 129
    rows[np.arange(count), np.arange(count) % 1024] = 126
    found = candidates(rows)
    assert len(np.unique(hashes(rows, views=False))) == 1
    assert len(found) <= count * (NEAR + NEAREST)
    steps = {(int(a), int(b)) for a, b in found if b == a + 1}
    assert len(steps) == count - 1


def test_no_rows_no_candidates() -> None:
    assert candidates(np.zeros((0, SIZE), np.uint8)).shape == (0, 2)
