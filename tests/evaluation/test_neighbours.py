"""Votes of neighbours, by hand."""

import numpy as np

from pipeline.evaluation.neighbours import answers


def at(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def said(asked: np.ndarray, known: np.ndarray, actual: list[int], k: int) -> list[int]:
    found: list[int] = answers(asked, known, np.array(actual), k=k, classes=3).tolist()
    return found


def test_the_nearest_decide() -> None:
    known = at(0, 10, 80, 90)
    assert said(at(2, 84), known, [0, 0, 1, 2], k=1) == [0, 1]
    assert said(at(2, 88), known, [0, 0, 1, 1], k=3) == [0, 1]


def test_a_near_one_outvotes_two_that_are_far() -> None:
    # Cosines 1, 0.5, 0.5: exp(0.5 / 0.07) = 1265 times as many votes.
    assert said(at(0), at(0, 60, 60), [2, 1, 1], k=3) == [2]
    # Cosines 0.9998, 0.9986, 0.9986: 1 to 2 × 0.98.
    assert said(at(0), at(1, 3, 3), [2, 1, 1], k=3) == [1]


def test_of_equally_near_ones_the_first_count_and_of_equal_votes_the_first_class() -> None:
    assert said(at(0), at(5, 5, 5), [2, 1, 1], k=1) == [2]
    assert said(at(0), at(5, 5, 5), [2, 1, 1], k=2) == [1]


def test_fewer_than_k_all_vote() -> None:
    assert said(at(0, 90), at(0, 90), [1, 2], k=20) == [1, 2]


def test_of_distinct_ones_the_order_changes_nothing() -> None:
    random = np.random.default_rng(0)
    known, asked = at(*random.uniform(0, 360, 300)), at(*random.uniform(0, 360, 50))
    actual, order = random.integers(3, size=300), random.permutation(300)
    before = answers(asked, known, actual, k=20, classes=3)
    assert (before == answers(asked, known[order], actual[order], k=20, classes=3)).all()
    assert len(set(before.tolist())) == 3
