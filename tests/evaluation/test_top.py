import numpy as np
import pytest

from pipeline.evaluation import top as module
from pipeline.evaluation.top import Searched, both_ways, examples, top


def unit(rows):
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


IMAGES = unit([[1, 0], [0, 1], [1, 1]])
TEXTS = unit([[1, 0], [0, 1], [1, 0.9], [-1, 0]])


def test_the_nearest_come_first_with_their_cosines():
    indices, cosines = top(TEXTS, IMAGES, 2)
    assert indices.tolist() == [[0, 2], [1, 2], [2, 0], [1, 2]]
    assert cosines[0] == pytest.approx([1, 2**-0.5], abs=1e-7)
    assert cosines[3] == pytest.approx([0, -(2**-0.5)], abs=1e-7)


def test_equal_ones_stand_by_position_wherever_a_block_ends(monkeypatch):
    random = np.random.default_rng(0)
    items = unit(random.normal(size=(7, 48)))[random.integers(0, 7, 500)]
    queries = unit(random.normal(size=(31, 48)))
    indices, cosines = top(queries, items, 500)
    for row, sure in zip(indices, cosines, strict=True):
        assert sorted(row) == list(range(500))
        assert sorted(zip(-sure, row, strict=True)) == list(zip(-sure, row, strict=True))
        assert len(set(sure)) == 7
    monkeypatch.setattr(module, "ITEMS", 7)
    monkeypatch.setattr(module, "QUERIES", 3)
    assert (top(queries, items, 500)[0] == indices).all()


def test_of_fewer_items_all_are_shown():
    assert top(TEXTS, IMAGES, 5)[0].shape == (4, 3)
    assert top(TEXTS[:0], IMAGES, 5)[0].shape == (0, 3)


def test_right_and_wrong_queries_with_what_belongs_to_them():
    # Of four texts, the first two find their picture at once, the last finds its own at last.
    shown = examples(
        Searched(
            "text_to_image", TEXTS, IMAGES, ["a", "b", "c", "d"], ["p", "q", "r"],
            np.array([0, 1, 2, 3]), np.array([0, 1, 0, 0]),
        ),
        np.array([1, 1, 2, 3]),
        each=2,
    )  # fmt: skip
    assert set(shown["query"][shown["best"] == 1]) == {"a", "b"}
    # c and d look for the same picture, so one of them stands for both.
    wrong = shown[shown["best"] > 1]
    assert len(wrong) == 3
    assert wrong["query"].iloc[0] in ("c", "d")
    assert set(wrong["own"]) == {"p"}
    assert wrong["right"].sum() == 1
    assert wrong["rank"].tolist() == [1, 2, 3]
    assert wrong["rank"][wrong["right"]].tolist() == [wrong["best"].iloc[0]]


def test_which_queries_are_shown_hangs_on_their_names_alone():
    random = np.random.default_rng(1)
    queries, items = unit(random.normal(size=(40, 8))), unit(random.normal(size=(40, 8)))
    names = [f"text {i}" for i in range(40)]

    def shown(order):
        place = np.empty(40, np.int64)
        place[order] = np.arange(40)
        searched = Searched(
            "text_to_image", queries[order], items, [names[i] for i in order],
            [str(i) for i in range(40)], place, np.arange(40),
        )  # fmt: skip
        return examples(searched, np.where(np.arange(40) < 20, 1, 9)[order])

    mixed = shown(random.permutation(40))
    assert mixed.equals(shown(np.arange(40)))
    assert mixed.groupby("best")["query"].nunique().to_dict() == {1: 3, 9: 3}


def test_both_ways_share_their_pairs():
    shown = both_ways(
        IMAGES,
        TEXTS,
        ids=["p", "q", "r"],
        captions=["a", "b", "c", "d"],
        image=np.array([0, 1, 2, 2]),
        text=np.array([0, 1, 2, 3]),
        best_text=np.array([1, 1, 1]),
        best_image=np.array([1, 1, 1, 2]),
    )
    by = shown.groupby("direction")["query"].apply(set).to_dict()
    assert by == {"image_to_text": {"p", "q", "r"}, "text_to_image": {"a", "b", "c", "d"}}
    of_r = shown[(shown["query"] == "r") & shown["right"]]
    assert of_r["item"].tolist() == ["c", "d"]
    assert set(of_r["own"]) == {"c"}
