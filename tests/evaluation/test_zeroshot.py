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
    found = zeroshot.answers(images, weights, actual=np.array([0, 2, 1]), scale=1)
    assert found.rank.tolist() == [1, 3, 2]
    assert found.best.tolist() == [0, 0, 0]
    assert found.cosine == pytest.approx([0.9, 0.5, 0.2])


def test_a_synonym_is_a_name_like_the_others() -> None:
    # "1", "3": four prompts at 10, 14, 30 and 34 degrees, and the class without synonyms at 7.
    weights = zeroshot.class_weights(["1", "7"], ["{}0", "{}4"], embed, synonyms={"1": ["3"]})
    expected = np.deg2rad([22, 72])
    assert weights == pytest.approx(np.stack([np.cos(expected), np.sin(expected)], 1), abs=1e-6)


def test_weights_are_the_same_however_many_prompts_are_embedded_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [str(i) for i in range(1, 8)]
    whole = zeroshot.class_weights(names, ["{}0", "{}4"], embed, synonyms={"2": ["9"]})
    monkeypatch.setattr(zeroshot, "PROMPTS", 1)
    parts = zeroshot.class_weights(names, ["{}0", "{}4"], embed, synonyms={"2": ["9"]})
    assert np.array_equal(whole, parts)


def test_confidence_is_a_softmax_over_the_classes() -> None:
    images = np.array([[1.0, 0], [0.6, 0.8]], np.float32)
    weights = np.eye(2, dtype=np.float32)
    found = zeroshot.answers(images, weights, actual=np.array([0, -1]), scale=10)
    expected = [1 / (1 + np.exp(-10)), 1 / (1 + np.exp(-2))]
    assert found.confidence == pytest.approx(expected, abs=1e-6)
    assert found.rank.tolist() == [1, 0]  # an image without a class has no rank
