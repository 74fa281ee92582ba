import numpy as np
import pytest

from pipeline.evaluation import zeroshot


def embed(texts: list[str]) -> zeroshot.Matrix:
    """Unit vectors at an angle of the text's digits, in degrees."""
    angles = np.deg2rad([float("".join(c for c in t if c.isdigit())) for t in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_class_is_the_normalised_mean_of_its_prompts() -> None:
    # prompts "0" and "10" for class 0… : their mean lies at half the angle
    weights = zeroshot.class_weights(["1"], ["{}0", "{}4"], embed)
    expected = np.deg2rad(12)
    assert weights == pytest.approx(np.array([[np.cos(expected), np.sin(expected)]]), abs=1e-6)


def test_ranks_and_predictions() -> None:
    weights = np.eye(3, dtype=np.float32)
    images = np.array([[0.9, 0.1, 0], [0.5, 0.4, 0.3], [0.2, 0.2, 0.2]], np.float32)
    assert zeroshot.ranks(images, weights, np.array([0, 2, 1])).tolist() == [1, 3, 2]
    best, score = zeroshot.predictions(images, weights)
    assert best.tolist() == [0, 0, 0]
    assert score == pytest.approx([0.9, 0.5, 0.2])
