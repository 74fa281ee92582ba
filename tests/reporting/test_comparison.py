import pytest

from pipeline.reporting.comparison import all_sets, compare, interval, percent, points
from tests.reporting.synthetic import scores


def test_only_metrics_with_a_number_are_compared():
    found = compare(scores(0.2, 0.5, 0.25, 0.35, labels=False))
    assert list(found) == [
        "image_to_text_r1",
        "image_to_text_r5",
        "image_to_text_r10",
        "text_to_image_r1",
        "text_to_image_r5",
        "text_to_image_r10",
    ]
    assert found["image_to_text_r1"].gain == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("base", "final", "low", "high", "outcome"),
    [
        (0.4, 0.5, 0.05, 0.15, "gain"),
        (0.5, 0.4, -0.15, -0.05, "loss"),
        (0.4, 0.5, -0.01, 0.21, "same"),
        (0.4, 0.5, 0.0, 0.2, "same"),
        (0.5, 0.4, -0.2, 0.0, "same"),
    ],
)
def test_an_interval_that_contains_zero_shows_no_difference(base, final, low, high, outcome):
    assert compare(scores(base, final, low, high))["top1"].outcome == outcome


def test_numbers_are_written_as_percent_and_signed_points():
    assert percent(0.9125) == "91.2 %"
    assert points(0.312) == "+31.2"
    assert points(-0.07) == "−7.0"
    assert points(-0.0001) == "+0.0"
    assert interval(-0.021, 0.335) == "[−2.1, 33.5]"


def test_the_target_comes_first_and_general_sets_follow_by_name():
    results = {"target": {}, "general": {"zoo": {}, "art": {}}}
    assert list(all_sets(results)) == ["target", "art", "zoo"]
