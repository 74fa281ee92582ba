"""Pictures that are the same to the model, beside a look at all pairs."""

import tracemalloc

import numpy as np
import pytest

from pipeline.artifacts import sha256_text
from pipeline.clip import semantic, store
from pipeline.clip.cache import as_ids

IDS = sorted(sha256_text(str(i)) for i in range(60))
SPLITS = {image_id: ("train", "test")[i % 2] for i, image_id in enumerate(IDS)}


def stored(folder, vectors):
    of = dict(zip(IDS, vectors, strict=False))
    ids = as_ids(IDS[: len(vectors)])
    store.write(
        folder,
        "images",
        ids,
        lambda some: np.stack([of[i.decode()] for i in some.tolist()]),
        dtype="fp32",
    )
    return store.read(folder, "images")


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("block", [4, 7, 1024])
def test_every_pair_above_the_limit_is_found_once(tmp_path, monkeypatch, block):
    monkeypatch.setattr(semantic, "BLOCK", block)
    vectors = unit(np.random.default_rng(0).normal(size=(60, 3)))
    found = semantic.near(stored(tmp_path, vectors), SPLITS, min_similarity=0.97)
    cosines = vectors @ vectors.T
    expected = {
        (IDS[i], IDS[j]) for i in range(60) for j in range(i + 1, 60) if cosines[i, j] >= 0.97
    }
    assert len(expected) > 10
    assert set(zip(found.pairs.a, found.pairs.b, strict=True)) == expected
    assert len(found.pairs) == len(expected)
    assert found.pairs.similarity.min() >= 0.97
    assert found.across == sum(SPLITS[a] != SPLITS[b] for a, b in expected)


def test_a_picture_repeated_has_few_pairs_not_all(tmp_path):
    found = semantic.near(stored(tmp_path, np.ones((60, 3)) / 3**0.5), SPLITS, min_similarity=0.9)
    assert found.pairs.groupby("a").size().max() == semantic.PARTNERS
    assert len(found.pairs) == 50 * 10 + 45


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_of_many_alike_the_nearest_are_kept_of_equal_ones_the_first(tmp_path, monkeypatch, block):
    monkeypatch.setattr(semantic, "BLOCK", block)
    monkeypatch.setattr(semantic, "CROWDED", 4)
    eighths = np.random.default_rng(0).integers(4, 9, size=(20, 8))[np.arange(60) % 20]
    vectors = (eighths / 8).astype(np.float32)  # their products are exact, in blocks of any shape
    found = semantic.near(stored(tmp_path, vectors), SPLITS, min_similarity=0.9)
    cosines = vectors @ vectors.T
    expected = [
        (IDS[i], IDS[j])
        for i in range(60)
        for j in sorted(sorted(range(i + 1, 60), key=lambda j: (-cosines[i, j], j))[:10])
    ]
    assert list(zip(found.pairs.a, found.pairs.b, strict=True)) == expected


def test_a_set_of_pictures_all_alike_needs_no_memory_for_all_its_pairs():
    cosines = np.ones((256, 8192), dtype=np.float32)
    tracemalloc.start()
    rows, _ = semantic._above(cosines, 0, 256, 0.9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 256 * semantic.PARTNERS
    assert peak < 2 * cosines.nbytes  # two million pairs by their numbers alone are four times that


def test_nothing_is_looked_for_where_it_is_off_or_too_much(tmp_path, monkeypatch):
    images = stored(tmp_path, np.ones((4, 3)))
    found = semantic.near(images, SPLITS, min_similarity=None)
    assert (found.across, found.why) == (None, None)
    monkeypatch.setattr(semantic, "MOST", 3)
    found = semantic.near(images, SPLITS, min_similarity=0.9)
    assert (len(found.pairs), found.across) == (0, None)
    assert found.why == "4 are more than 3"
