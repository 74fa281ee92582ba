import pandas as pd
import pytest

from pipeline.reporting.choice import choice_sentence
from pipeline.reporting.curve import curve_chart, headline_of
from tests.reporting.synthetic import CHOICE, CURVE


@pytest.mark.parametrize(
    ("alpha", "changes", "sentence"),
    [
        (1.0, {}, "models/final is the trained model itself (α = 1): the best on validation."),
        (
            0.6,
            {"max_forgetting": 0.02, "alpha_without_bound": 0.6},
            "models/final lies at α = 0.6 of the way from the base to the trained model: the best "
            "on validation, and no general set loses more than 2 points.",
        ),
        (
            0.6,
            {"max_forgetting": 0.02, "validation": 0.85},
            "models/final lies at α = 0.6 of the way from the base to the trained model: the best "
            "on validation where no general set loses more than 2 points (α = 1 would give 90.0 % "
            "on the validation pictures instead of 85.0 %).",
        ),
        (
            0.0,
            {"max_forgetting": 0.02, "validation": 0.85},
            "models/final is the base itself: where no general set loses more than 2 points, no "
            "other point was better on validation (α = 1 would give 90.0 % on the validation "
            "pictures instead of 85.0 %).",
        ),
        (
            0.0,
            {"alpha_without_bound": 0.0},
            "models/final is the base itself: nothing on the way to the trained model was better "
            "on validation.",
        ),
    ],
)
def test_the_choice_is_told_with_its_reason(alpha, changes, sentence):
    assert choice_sentence(alpha, {**CHOICE, **changes}) == sentence


def test_the_chart_has_a_line_a_set_and_escapes_its_name():
    curve = CURVE.replace({"set": {"base_slice": "<b>odd"}})
    svg = curve_chart(curve, alpha=0.5, name="curve")
    assert "&lt;b&gt;odd" in svg
    assert "<b>" not in svg
    assert "your validation pictures" in svg
    # Two lines of three points each: an empty one would have none.
    assert svg.count("<use ") >= 6
    assert "models/final" in svg


def test_a_set_without_labels_is_shown_by_finding_captions():
    rows = pd.DataFrame({"set": ["a", "a", "b"], "metric": ["image_to_text_r1", "top1", "x_r1"]})
    assert headline_of(rows, "a") == "top1"
    assert headline_of(rows, "b") == "image_to_text_r1"
