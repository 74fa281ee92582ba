import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import retrieval

# Three images, four texts; texts 0 and 1 belong to image 0, text 2 to image 1, text 3 to image 2.
# Scores, image by text:   t0   t1   t2   t3
#                    i0  0.9  0.2  0.5  0.1
#                    i1  0.3  0.8  0.7  0.4
#                    i2  0.6  0.1  0.2  0.5
SCORES = np.array([[0.9, 0.2, 0.5, 0.1], [0.3, 0.8, 0.7, 0.4], [0.6, 0.1, 0.2, 0.5]], np.float32)
OWNER = np.array([0, 0, 1, 2])
IMAGES, TEXTS = SCORES, np.eye(4, dtype=np.float32)  # image · text = score


def test_image_to_text_takes_the_best_of_an_images_captions() -> None:
    # i0: t0 is first. i1: t2 comes after t1. i2: t3 comes after t0.
    assert retrieval.image_to_text_ranks(IMAGES, TEXTS, OWNER).tolist() == [1, 2, 2]


def test_text_to_image_ranks_each_texts_own_image() -> None:
    # t0: i0 first. t1: i1 0.8 before i0 0.2. t2: i1 first. t3: i2 first.
    assert retrieval.text_to_image_ranks(IMAGES, TEXTS, OWNER).tolist() == [1, 2, 1, 1]


def test_recalls_are_shares() -> None:
    found = retrieval.recalls(IMAGES, TEXTS, OWNER)
    assert found["image_to_text_r1"] == pytest.approx(1 / 3)
    assert found["text_to_image_r1"] == pytest.approx(3 / 4)
    assert found["mean_r1"] == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert found["image_to_text_r5"] == found["text_to_image_r10"] == 1


def test_equal_scores_rank_by_position() -> None:
    images = np.ones((3, 1), np.float32)
    texts = np.ones((3, 1), np.float32)
    ranks = retrieval.text_to_image_ranks(images, texts, np.arange(3))
    assert ranks.tolist() == [1, 2, 3]


@given(st.integers(0, 1000), st.integers(1, 30))
def test_blocks_and_permutations_change_nothing(seed: int, block: int) -> None:
    random = np.random.default_rng(seed)
    images = random.normal(size=(9, 5)).astype(np.float32)
    texts = random.normal(size=(17, 5)).astype(np.float32)
    owner = np.concatenate([np.arange(9), random.integers(0, 9, 8)])
    whole = retrieval.recalls(images, texts, owner)
    order, before = random.permutation(17), retrieval.BLOCK
    try:
        retrieval.BLOCK = block
        again = retrieval.recalls(images, texts[order], owner[order])
    finally:
        retrieval.BLOCK = before
    assert again == whole
