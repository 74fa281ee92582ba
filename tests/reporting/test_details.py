import pytest

from pipeline.reporting import details
from tests.reporting.synthetic import DETAILS, RESULTS, WHOLE, scores

BY_MODEL = {
    model: {
        "omitted": {},
        "majority": {"class": "dog", "share": 0.6},
        "classes_without_images": ["owl"],
        "ece": ece,
        "reliability": [
            {"low": 0.8, "high": 0.9, "confidence": 0.85, "accuracy": right, "images": 4}
        ],
        "per_class": [
            {
                "class": name,
                "images": images,
                "said": 5,
                "right": 2,
                "recall": recall,
                "precision": 0.4,
                "mistaken_for": wrong,
                "mistaken": 1 if wrong else 0,
            }
            for name, images, recall, wrong in (
                ("cat", 4, right, "dog"),
                ("dog", 6, 0.9, None),
                ("owl", 0, None, None),
            )
        ],
    }
    for model, ece, right in (("base", 0.2, 0.25), ("final", 0.1, 0.5))
}


def test_classes_stand_worst_first_and_those_without_pictures_apart():
    target = {"details": DETAILS}
    rows = details.class_rows(target)
    assert [(row.name, row.images, row.taken_for, row.taken_for_count) for row in rows] == [
        ("dog", 60, "cat", 21),
        ("cat", 40, "dog", 9),
    ]
    assert [row.gain for row in rows] == pytest.approx([-0.05, 0.25])
    assert details.without_images(target) == ["owl"]
    assert details.majority(target) == 0.6


def test_details_told_by_model_are_joined():
    target = {"details": BY_MODEL}
    assert [tuple(row) for row in details.class_rows(target)] == [
        ("cat", 4, 0.25, 0.5, "dog", 1),
        ("dog", 6, 0.9, 0.9, None, 0),
    ]
    assert details.majority(target) == 0.6
    assert details.without_images(target) == ["owl"]
    found = details.calibration(target)
    assert {model: one.ece for model, one in found.items()} == {"base": 0.2, "final": 0.1}
    assert found["base"].tendency == "more sure than it is right"
    assert details.calibration({"details": DETAILS})["final"].tendency == (
        "less sure than it is right"
    )


def test_slices_stand_by_what_was_cut_worst_first():
    found = details.slices(WHOLE)
    assert {by: [row.value for row in rows] for by, rows in found.items()} == {
        "label": ["dog"],
        "shorter side": ["64 to 127 px"],
    }
    assert found["shorter side"][0].outcome == "gain"


def test_what_evaluate_judged_as_shown_counts_not_the_interval():
    [one] = details.slices(WHOLE)["label"]
    assert one.high < 0
    assert one.outcome == "same"


def test_a_second_opinion_is_an_accuracy_with_its_interval():
    knn, linear = details.opinions(WHOLE)
    assert (knn.found.base, knn.found.final, knn.found.outcome) == (0.8, 0.9, "gain")
    assert linear.found.outcome == "same"
    assert details.opinions({"probe": {"linear": None}}) == []


def test_a_set_that_is_not_searched_says_why():
    assert details.unsearched({"details": DETAILS}) is None
    omitted = {"omitted": {"retrieval": "it has none"}}
    assert details.unsearched({"details": {"base": omitted, "final": omitted}}) == "it has none"


def test_what_is_absent_is_none_and_said_to_be():
    target = scores(0.4, 0.6, 0.1, 0.3, labels=False)
    for none in ({}, {"details": None}, {"details": {}}):
        assert details.class_rows({**target, **none}) == []
        assert details.calibration({**target, **none}) == {}
        assert details.majority({**target, **none}) is None
    bare = {"target": target, "general": {}}
    said = details.left_out(bare, confused=False, searched=False, drawn=False)
    assert said["Class by class"] == said["Confusions"] == "the test pictures have no labels"
    assert said["Examples of searches"] == "evaluate did not measure it"
    assert len(said) == 8
    whole = {**RESULTS, **WHOLE, "target": {**RESULTS["target"], "details": DETAILS}}
    assert details.left_out(whole, confused=True, searched=True, drawn=True) == {}


def test_the_reason_that_evaluate_gives_is_the_reason():
    why = "the set has one class, 'cat': any answer would be right"
    omitted = {"omitted": {"classification": why}}
    target = {**scores(0.4, 0.6, 0.1, 0.3), "details": {"base": omitted, "final": omitted}}
    results = {"target": target, "general": {}, "slices": WHOLE["slices"]}
    said = details.left_out(results, confused=False, searched=True, drawn=True)
    assert said["Class by class"] == said["How sure it is"] == why
    assert "Parts of the test pictures" not in said
