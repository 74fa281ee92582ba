import numpy as np
import pytest

from pipeline.evaluation.likeliest import likeliest, softmax


def test_a_probability_is_the_share_of_a_softmax_over_scaled_cosines() -> None:
    """Cosines 0.6, 0.8 and 0 at scale 10: exp(6), exp(8) and exp(0) of their sum."""
    images = np.array([[0.6, 0.8]], dtype=np.float32)
    weights = np.array([[1, 0], [0, 1], [0.8, -0.6]], dtype=np.float32)
    (found,) = likeliest(["a.jpg"], images, weights, ["x", "y", "z"], scale=10, top=2)
    total = np.exp(6) + np.exp(8) + 1
    assert found.image == "a.jpg"
    assert [label.name for label in found.labels] == ["y", "x"]
    assert [label.probability for label in found.labels] == pytest.approx(
        [np.exp(8) / total, np.exp(6) / total]
    )
    assert [label.cosine for label in found.labels] == pytest.approx([0.8, 0.6])


def test_a_large_scale_overflows_nowhere() -> None:
    assert softmax(np.array([[1e4, 1e4 - np.log(3), -1e4]])) == pytest.approx(
        np.array([[0.75, 0.25, 0]])
    )
