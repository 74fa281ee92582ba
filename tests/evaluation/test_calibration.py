import numpy as np
import pytest

from pipeline.evaluation.calibration import BINS, calibration


def test_the_error_is_the_distance_of_confidence_and_accuracy() -> None:
    # One bin (0.8 to 13/15): 4 images, sure by 0.85, half of them right. Another: sure and right.
    found = calibration(np.array([0.85] * 4 + [1.0] * 2), np.array([1, 1, 0, 0, 1, 1], bool))
    assert found.ece == pytest.approx(4 / 6 * 0.35)
    first, last = found.reliability
    assert (first["low"], first["high"]) == (12 / 15, 13 / 15)
    assert (first["images"], first["accuracy"]) == (4, 0.5)
    assert first["confidence"] == pytest.approx(0.85)
    assert (last["low"], last["high"], last["images"], last["accuracy"]) == (14 / 15, 1, 2, 1)


def test_a_bin_holds_its_upper_edge() -> None:
    edges = np.arange(1, BINS + 1) / BINS
    found = calibration(edges, np.ones(BINS, bool))
    assert [row["images"] for row in found.reliability] == [1] * BINS
    assert calibration(np.array([0.0]), np.array([False])).reliability[0]["high"] == 1 / BINS


def test_a_model_that_is_right_as_often_as_it_is_sure_has_no_error() -> None:
    assert calibration(np.full(4, 0.75), np.array([1, 1, 1, 0], bool)).ece == 0
