"""Which pictures are found to be copies of each other, and which are not."""

import io
import random
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from pipeline.data.signatures import SIZE, signature
from pipeline.duplicates.groups import group_of
from pipeline.duplicates.images import TWINS, near_pairs
from pipeline.duplicates.planes import Signatures, stack
from samples.scenes import damage
from samples.scenes.scene import make_scene

KINDS: Sequence[damage.Treatment] = [kind for kind in damage.COPIES if kind != "exact_copy"]
ORIGINALS, COPIED = 120, 12


def decoded(content: bytes | None) -> Image.Image:
    assert content is not None
    return Image.open(io.BytesIO(content)).convert("RGB")


@pytest.fixture(scope="module")
def scenes() -> dict[str, bytes]:
    """Signatures of scenes by name, and of copies named `<original>.<kind>`."""
    found = {}
    for index in range(ORIGINALS):
        scene = make_scene(0, index, world="sample", sides=(256,))
        kinds = ["none", *KINDS] if index < COPIED else ["none"]
        for kind in kinds:
            much = damage.amount(kind, random.Random(index))
            name = f"{index:03d}" if kind == "none" else f"{index:03d}.{kind}"
            found[name] = signature(decoded(damage.content(scene, kind, much)))
    return found


def blobs(seed: int) -> Image.Image:
    """A soft pattern of colours, of which no two seeds have the same."""
    small = np.random.default_rng(seed).integers(20, 220, size=(7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)


def similarity(one: Image.Image, two: Image.Image) -> float:
    """As near_pairs tells it; 0 where it finds nothing."""
    near = near_pairs(["a", "b"], [signature(one), signature(two)], min_similarity=0.0)
    return float(near["similarity"].sum())


def find(named: dict[str, bytes], *, least: float = 0.9) -> pd.DataFrame:
    return near_pairs(list(named), list(named.values()), min_similarity=least)


def test_copies_are_found_and_nothing_else(scenes: dict[str, bytes]) -> None:
    near = find(scenes)
    copy_of = {(f"{i:03d}", f"{i:03d}.{kind}") for i in range(COPIED) for kind in KINDS}
    told = set(zip(near["a"], near["b"], strict=True))
    assert len(copy_of & told) / len(copy_of) >= 0.95
    assert [(a, b) for a, b in told if a[:3] != b[:3]] == []


def test_rows_are_sorted_with_the_least_id_first(scenes: dict[str, bytes]) -> None:
    near = find(scenes)
    assert list(near.columns) == ["a", "b", "similarity"]
    assert (near["a"] < near["b"]).all()
    assert near.equals(near.sort_values(["a", "b"], ignore_index=True))
    assert near["similarity"].between(0.9, 1).all()


def test_the_order_of_pictures_is_no_matter(scenes: dict[str, bytes]) -> None:
    names = list(scenes)
    random.Random(1).shuffle(names)
    assert find({name: scenes[name] for name in names}).equals(find(scenes))


def test_neither_are_their_ids(scenes: dict[str, bytes]) -> None:
    other = {f"{int(name[:3]) * 7919 % 1000:03d}{name[3:]}": name for name in scenes}
    near = find({new: scenes[old] for new, old in other.items()})
    renamed = {
        (*sorted((other[a], other[b])), value) for a, b, value in near.itertuples(index=False)
    }
    assert renamed == set(find(scenes).itertuples(index=False, name=None))


def test_a_pair_is_as_similar_alone_as_in_company(scenes: dict[str, bytes]) -> None:
    for a, b, value in list(find(scenes).itertuples(index=False))[:10]:
        alone = find({a: scenes[a], b: scenes[b]})
        assert alone["similarity"].tolist() == [value]


def test_a_higher_threshold_takes_pairs_away_only(scenes: dict[str, bytes]) -> None:
    low, high = find(scenes, least=0.9), find(scenes, least=0.97)
    assert 0 < len(high) < len(low)
    assert low[low["similarity"] >= 0.97].reset_index(drop=True).equals(high)


def test_bytes_and_rows_are_the_same(scenes: dict[str, bytes]) -> None:
    rows = stack(list(scenes.values()))
    assert near_pairs(list(scenes), rows, min_similarity=0.9).equals(find(scenes))


cuts = st.tuples(*[st.floats(0, 0.05)] * 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), cuts, st.floats(0.9, 1.1))
def test_any_small_crop_and_brightness_is_near(
    seed: int, cut: tuple[float, float, float, float], brightness: float
) -> None:
    picture = blobs(seed)
    (width, height), (left, top, right, bottom) = picture.size, cut
    box = (
        round(width * left), round(height * top),
        width - round(width * right), height - round(height * bottom),
    )  # fmt: skip
    copy = ImageEnhance.Brightness(picture.crop(box)).enhance(brightness)
    assert similarity(picture, copy) >= 0.9


def test_a_copy_stretched_to_a_square_is_near() -> None:
    assert similarity(blobs(3), blobs(3).resize((224, 224))) >= 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 260), st.integers(20, 180))
def test_an_object_that_only_one_shows_makes_two_pictures(seed: int, x: int, y: int) -> None:
    picture = blobs(seed)
    other = picture.copy()
    black = sum(picture.getpixel((x + 20, y + 20))) > 384  # type: ignore[arg-type]
    ImageDraw.Draw(other).ellipse((x, y, x + 40, y + 40), fill=(0, 0, 0) if black else "white")
    assert similarity(picture, other) < 0.9


@pytest.mark.parametrize(
    ("one", "two", "near"),
    [
        ((255, 255, 255), (255, 255, 255), True),
        ((255, 255, 255), (254, 255, 254), True),
        ((255, 255, 255), (225, 225, 225), False),
        ((120, 120, 120), (132, 132, 132), False),
        ((200, 40, 40), (40, 40, 200), False),
        ((0, 0, 0), (255, 255, 255), False),
    ],
)
def test_plain_pictures_are_near_in_one_colour(
    one: tuple[int, int, int], two: tuple[int, int, int], near: bool
) -> None:
    pictures = (Image.new("RGB", (100, 80), colour) for colour in (one, two))
    assert (similarity(*pictures) >= 0.9) is near


def test_a_pattern_in_another_colour_is_another_picture() -> None:
    red, green, blue = blobs(5).split()
    assert similarity(blobs(5), Image.merge("RGB", (blue, green, red))) < 0.9


def blank(count: int) -> Signatures:
    """White pictures with one grey dot each: hashes alike, no two the same."""
    rows = np.full((count, SIZE), 128, np.uint8)
    rows[:, :1024] = 250
    rows[np.arange(count), np.arange(count) % 1024] = 200 + np.arange(count) // 1024
    return rows


def test_many_blank_pictures_hang_together_without_all_pairs() -> None:
    count = 1_200
    ids = [f"{i:05d}" for i in range(count)]
    near = near_pairs(ids, blank(count), min_similarity=0.5)
    assert len(near) < 50 * count
    assert set(group_of(ids, near).values()) == {"00000"}
    assert len(group_of(ids, near)) == count


def test_equal_signatures_hang_together_without_all_pairs() -> None:
    count = 1_000
    ids = [f"{i:05d}" for i in range(count)]
    near = near_pairs(ids, [signature(blobs(1))] * count, min_similarity=0.9)
    assert len(near) == TWINS * (TWINS - 1) // 2 + count - TWINS
    assert set(near["similarity"]) == {1.0}
    assert len(group_of(ids, near)) == count


def test_equal_signatures_are_each_near_a_copy_of_theirs() -> None:
    one, two = signature(blobs(1)), signature(blobs(1).resize((200, 150)))
    near = near_pairs(["d", "a", "b", "c"], [one, one, two, two], min_similarity=0.9)
    assert list(zip(near["a"], near["b"], strict=True)) == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_compare(count: int) -> None:
    near = near_pairs(["a"] * count, [signature(blobs(1))] * count, min_similarity=0.9)
    assert near.empty
    assert [str(kind) for kind in near.dtypes] == ["str", "str", "float64"]


def test_ids_that_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match="2 signatures, 2 ids, 1 distinct"):
        near_pairs(["a", "a"], [bytes(SIZE)] * 2, min_similarity=0.9)


@pytest.mark.parametrize("rows", [np.zeros((2, 9), np.uint8), np.zeros((2, SIZE))])
def test_rows_that_are_no_signatures_are_refused(rows: Signatures) -> None:
    with pytest.raises(ValueError, match=r"not \(N, 1536\)"):
        near_pairs(["a", "b"], rows, min_similarity=0.9)
