import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import retrieval
from pipeline.evaluation.ranks import Blocks, Pairs, pair_ranks

# Three images, four texts; texts 0 and 1 belong to image 0, text 2 to image 1, text 3 to image 2.
# Scores, image by text:   t0   t1   t2   t3
#                    i0  0.9  0.2  0.5  0.1
#                    i1  0.3  0.8  0.7  0.4
#                    i2  0.6  0.1  0.2  0.5
SCORES = np.array([[0.9, 0.2, 0.5, 0.1], [0.3, 0.8, 0.7, 0.4], [0.6, 0.1, 0.2, 0.5]], np.float32)
OWNER = np.array([0, 0, 1, 2])
IMAGES, TEXTS = SCORES, np.eye(4, dtype=np.float32)  # image · text = score


def test_each_caption_has_a_rank_for_its_image_and_its_image_for_it() -> None:
    ranks = pair_ranks(IMAGES, TEXTS, Pairs(OWNER, np.arange(4)))
    # i0: t0, t2, t1, t3. i1: t1, t2, t3, t0. i2: t0, t3, t2, t1.
    assert ranks.text.tolist() == [1, 3, 2, 2]
    # t0: i0 first. t1: i1 0.8 before i0 0.2. t2: i1 first. t3: i2 first.
    assert ranks.image.tolist() == [1, 2, 1, 1]


def test_the_best_caption_counts_and_all_of_them_for_precision() -> None:
    # i0's captions stand at 1 and 3: (1/1 + 2/3) / 2.
    found = retrieval.of_queries(OWNER, np.array([1, 3, 2, 2]))
    assert found.best.tolist() == [1, 2, 2]
    assert found.precision == pytest.approx([5 / 6, 1 / 2, 1 / 2])


def test_recalls_are_shares() -> None:
    found = retrieval.recalls(IMAGES, TEXTS, OWNER)
    assert found["image_to_text_r1"] == pytest.approx(1 / 3)
    assert found["text_to_image_r1"] == pytest.approx(3 / 4)
    assert found["mean_r1"] == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert found["image_to_text_r5"] == found["text_to_image_r10"] == 1


def test_texts_equal_to_a_reader_share_their_images() -> None:
    # i0 carries "A dog." and "two cats", i1 "a  dog" and "a dog", i2 "a dog": one key, 3 strings.
    captions = ["A dog.", "two cats", "a  dog", "a dog", "a dog"]
    texts = retrieval.distinct_texts(captions)
    assert texts.distinct == ["A dog.", "two cats", "a  dog", "a dog"]
    assert texts.of_caption.tolist() == [0, 1, 2, 3, 3]
    pairs = retrieval.belonging(np.array([0, 0, 1, 1, 2]), texts)
    assert list(zip(pairs.image.tolist(), pairs.text.tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3), (2, 0), (2, 2), (2, 3),
    ]  # fmt: skip


def test_any_image_that_carries_the_caption_is_a_hit() -> None:
    # Both images carry the one text, which likes the second: a hit for a query of either.
    images, texts = np.eye(2, dtype=np.float32), np.array([[0, 1]], np.float32)
    ranks = pair_ranks(images, texts, Pairs(np.array([0, 1]), np.array([0, 0])))
    assert ranks.image.tolist() == [2, 1]
    found = retrieval.of_queries(np.array([0, 0]), ranks.image)
    assert (found.best.tolist(), found.precision.tolist()) == ([1], [1.0])


def test_equal_scores_rank_by_position() -> None:
    same = np.ones((3, 1), np.float32)
    for many in (0, 9):
        ranks = pair_ranks(same, same, Pairs(np.arange(3), np.arange(3)), blocks=Blocks(2, 2, many))
        assert ranks.image.tolist() == ranks.text.tolist() == [1, 2, 3]


def drawn(seed: int, images: int, texts: int) -> tuple[np.ndarray, np.ndarray, Pairs]:
    """Vectors of few values, so that many scores are equal, and pairs: at least one of each."""
    random = np.random.default_rng(seed)
    pairs = np.concatenate(
        [
            np.stack([np.arange(images), random.integers(0, texts, images)], axis=1),
            np.stack([random.integers(0, images, texts), np.arange(texts)], axis=1),
            np.stack([random.integers(0, n, 10) for n in (images, texts)], axis=1),
        ]
    )
    image, text = random.permutation(np.unique(pairs, axis=0)).T
    vectors = (random.integers(-2, 3, (n, 3)).astype(np.float32) for n in (images, texts))
    return *vectors, Pairs(image.copy(), text.copy())


def by_sorting(scores: np.ndarray, query: np.ndarray, item: np.ndarray) -> list[int]:
    """The rank of each item for its query, by a stable sort of the whole row."""
    orders = [np.argsort(-row, kind="stable").tolist() for row in scores]
    return [orders[q].index(i) + 1 for q, i in zip(query, item, strict=True)]


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 12))
def test_ranks_are_those_of_a_sort(seed: int, images: int, texts: int) -> None:
    image, text, pairs = drawn(seed, images, texts)
    ranks = pair_ranks(image, text, pairs)
    assert ranks.text.tolist() == by_sorting(image @ text.T, pairs.image, pairs.text)
    assert ranks.image.tolist() == by_sorting(text @ image.T, pairs.text, pairs.image)


BLOCKS = st.builds(Blocks, st.integers(1, 9), st.integers(1, 12), st.integers(0, 4))


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 12), BLOCKS)
def test_blocks_change_nothing(seed: int, images: int, texts: int, blocks: Blocks) -> None:
    image, text, pairs = drawn(seed, images, texts)
    whole = pair_ranks(image, text, pairs)
    found = pair_ranks(image, text, pairs, blocks=blocks)
    assert found.text.tolist() == whole.text.tolist()
    assert found.image.tolist() == whole.image.tolist()


@given(st.integers(0, 1000), st.integers(1, 30))
def test_blocks_and_permutations_change_no_recall_of_real_vectors(seed: int, block: int) -> None:
    random = np.random.default_rng(seed)
    images = random.normal(size=(9, 5)).astype(np.float32)
    texts = random.normal(size=(17, 5)).astype(np.float32)
    owner = np.concatenate([np.arange(9), random.integers(0, 9, 8)])
    order = random.permutation(17)
    again = retrieval.recalls(images, texts[order], owner[order])
    assert again == retrieval.recalls(images, texts, owner)
    pairs = Pairs(owner, np.arange(17))
    whole = pair_ranks(images, texts, pairs)
    parts = pair_ranks(images, texts, pairs, blocks=Blocks(block, block))
    assert parts.text.tolist() == whole.text.tolist()
    assert parts.image.tolist() == whole.image.tolist()


def test_definitions_are_clip_benchmarks_where_captions_are_unique() -> None:
    """Its recall_at_k: hits among the k best of a row, and whether there is any."""
    random = np.random.default_rng(0)
    images, texts = (random.normal(size=(n, 8)).astype(np.float32) for n in (40, 100))
    owner = np.concatenate([np.arange(40), random.integers(0, 40, 60)])
    scores = texts @ images.T
    mine = pd.DataFrame({"text": np.arange(100), "image": owner})
    positive = pd.crosstab(mine["text"], mine["image"]).to_numpy().astype(bool)
    found = retrieval.recalls(images, texts, owner)
    for k in retrieval.KS:
        for way, rows, truth in (
            ("text_to_image", scores, positive), ("image_to_text", scores.T, positive.T),
        ):  # fmt: skip
            best = np.argsort(-rows, axis=1)[:, :k]
            any_ = np.take_along_axis(truth, best, axis=1).any(axis=1)
            assert found[f"{way}_r{k}"] == pytest.approx(any_.mean(), abs=1e-12)
