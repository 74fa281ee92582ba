"""The linear classifier, against what is known of its optimum and against scikit-learn's."""

import numpy as np
import pytest

from pipeline.evaluation.logistic import Linear, fitted

STRENGTHS = [1e-2, 1e-4]


def cone(count: int, *, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around one direction, as a model's are, whose classes overlap."""
    random = np.random.default_rng(seed)
    actual = np.arange(count) % classes
    means = np.random.default_rng(99).normal(size=(classes, 16))
    vectors = means[actual] + 2 * random.normal(size=(count, 16)) + 20
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), actual


def shares(model: Linear, vectors: np.ndarray) -> np.ndarray:
    """Softmax of the scores: N×C."""
    scores = vectors @ model.weights.T + model.bias
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_two_separate_classes_are_told_apart() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 1]], np.float32)
    [(_, model)] = fitted(vectors, np.array([0, 0, 1, 1]), [1e-3], classes=2)
    assert model.answers(vectors).tolist() == [0, 0, 1, 1]
    assert model.answers(np.array([[-1, 0], [1, 0]], np.float32)).tolist() == [1, 0]
    assert model.converged


def test_a_strong_penalty_leaves_the_shares_of_the_classes() -> None:
    vectors, _ = cone(8, classes=2, seed=0)
    actual = np.array([0, 1, 1, 1] * 2)
    [(_, model)] = fitted(vectors, actual, [1e6], classes=2)
    assert shares(model, vectors) == pytest.approx(np.tile([0.25, 0.75], (8, 1)), abs=1e-4)


def test_the_gradient_vanishes_where_the_search_ends() -> None:
    vectors, actual = cone(200, classes=5, seed=1)
    for l2, model in fitted(vectors, actual, STRENGTHS, classes=5):
        off = shares(model, vectors) - np.eye(5)[actual]
        assert np.abs(off.T @ vectors / 200 + l2 * model.weights).max() < 1e-4
        assert np.abs(off.mean(axis=0)).max() < 1e-4
        assert model.converged


def test_it_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, actual = cone(400, classes=6, seed=2)
    others, _ = cone(300, classes=6, seed=3)
    for l2, model in fitted(vectors, actual, STRENGTHS, classes=6):
        theirs = linear_model.LogisticRegression(C=1 / (l2 * 400), tol=1e-8, max_iter=10_000)
        theirs.fit(vectors.astype(np.float64), actual)
        assert shares(model, others) == pytest.approx(theirs.predict_proba(others), abs=2e-3)
        assert (model.answers(others) == theirs.predict(others)).mean() > 0.99


def test_strengths_are_taken_from_strong_to_weak_and_each_leads_to_the_same_optimum() -> None:
    vectors, actual = cone(200, classes=4, seed=4)
    path = dict(fitted(vectors, actual, [1e-4, 1e-2, 1e-2], classes=4))
    assert list(path) == [1e-2, 1e-4]
    [(_, alone)] = fitted(vectors, actual, [1e-4], classes=4)
    assert shares(path[1e-4], vectors) == pytest.approx(shares(alone, vectors), abs=2e-3)


def test_the_order_of_the_rows_changes_nothing() -> None:
    vectors, actual = cone(200, classes=4, seed=5)
    order = np.random.default_rng(0).permutation(200)
    [(_, one)] = fitted(vectors, actual, [1e-3], classes=4)
    [(_, other)] = fitted(vectors[order], actual[order], [1e-3], classes=4)
    assert (one.answers(vectors) == other.answers(vectors)).all()
    assert one.weights == pytest.approx(other.weights, abs=1e-6)


def test_a_search_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.evaluation.logistic.STEPS", 1)
    vectors, actual = cone(200, classes=4, seed=6)
    [(_, model)] = fitted(vectors, actual, [1e-5], classes=4)
    assert not model.converged
