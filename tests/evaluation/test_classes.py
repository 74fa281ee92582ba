import numpy as np

from pipeline.evaluation import classes

NAMES = ["ant", "bee", "cat", "dog"]
ACTUAL = np.array([0, 0, 0, 0, 1, 1, 3])
SAID = np.array([0, 2, 1, 2, 1, 0, 3])


def test_a_class_has_its_images_answers_and_its_most_common_mistake() -> None:
    ant, bee, cat, dog = classes.per_class(ACTUAL, SAID, NAMES)
    assert ant == {
        "class": "ant", "images": 4, "said": 2, "right": 1, "recall": 0.25, "precision": 0.5,
        "mistaken_for": "cat", "mistaken": 2,
    }  # fmt: skip
    assert (bee["recall"], bee["mistaken_for"], bee["mistaken"]) == (0.5, "ant", 1)
    assert (cat["images"], cat["recall"], cat["precision"]) == (0, None, 0.0)
    assert (dog["recall"], dog["precision"], dog["mistaken_for"], dog["mistaken"]) == (
        1,
        1,
        None,
        0,
    )


def test_of_equal_mistakes_the_first_by_name_is_told() -> None:
    rows = classes.per_class(np.array([3, 3]), np.array([2, 1]), NAMES)
    assert (rows[3]["mistaken_for"], rows[3]["mistaken"]) == ("bee", 1)
    assert rows[0]["precision"] is None


def test_the_majority_is_what_saying_one_class_would_score() -> None:
    assert classes.majority(ACTUAL, NAMES) == {"class": "ant", "share": 4 / 7}


def test_a_class_without_images_is_named() -> None:
    assert classes.without_images(ACTUAL, NAMES) == ["cat"]
