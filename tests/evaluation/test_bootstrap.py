import numpy as np
import pytest

from pipeline.evaluation import bootstrap
from pipeline.evaluation.bootstrap import (
    Median,
    Metric,
    paired_gain,
    paired_gain_of_hits,
    paired_gains,
    value,
)


def ratio(hits: list[float], counts: list[float] | None = None) -> Metric:
    return Metric(np.array(hits, float), np.array(counts or [1] * len(hits), float))


def test_a_ratio_is_hits_over_counts() -> None:
    assert value(ratio([1, 2, 0], [1, 4, 1])) == pytest.approx(0.5)


def test_a_mean_per_class_weighs_classes_alike() -> None:
    hits, groups = np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1])
    assert value(Metric(hits, np.ones(4), groups)) == pytest.approx(0.5)


def test_no_change_has_no_width() -> None:
    hits = [1.0, 0, 1, 0, 1]
    gain = paired_gain(ratio(hits), ratio(hits), resamples=200, confidence=0.95, seed=0)
    assert gain == {"value": 0, "low": 0, "high": 0}


def test_the_interval_is_that_of_theory() -> None:
    """900 images, gains +1 with 30 %, −1 with 10 %: mean 0.2, deviation √(0.4 − 0.04)."""
    base = np.array([0.0] * 270 + [1.0] * 90 + [1.0] * 540)
    finetuned = np.array([1.0] * 270 + [0.0] * 90 + [1.0] * 540)
    ones = np.ones(900)
    gain = paired_gain(
        Metric(base, ones), Metric(finetuned, ones), resamples=4000, confidence=0.95, seed=0
    )
    half = 1.96 * np.sqrt(0.36 / 900)
    assert gain["value"] == pytest.approx(0.2)
    assert gain["low"] == pytest.approx(0.2 - half, abs=0.003)
    assert gain["high"] == pytest.approx(0.2 + half, abs=0.003)


def test_captions_of_one_image_are_kept_together() -> None:
    """The same hits spread over fewer images give a wider interval."""
    many = paired_gain(
        ratio([0.0] * 100), ratio([1.0, 0] * 50), resamples=2000, confidence=0.95, seed=0
    )
    few = paired_gain(
        ratio([0.0] * 10, [10] * 10), ratio([10.0, 0] * 5, [10] * 10),
        resamples=2000, confidence=0.95, seed=0,
    )  # fmt: skip
    assert few["high"] - few["low"] > 2 * (many["high"] - many["low"])


def test_a_seed_gives_the_same_interval() -> None:
    arguments = (ratio([0, 1, 0, 1, 1.0]), ratio([1, 1, 0, 1, 0.0]))
    first, second, other = (
        paired_gain(*arguments, resamples=100, confidence=0.8, seed=seed) for seed in (0, 0, 1)
    )
    assert first == second
    assert first["value"] == other["value"]


def test_a_median_is_that_of_its_queries() -> None:
    owner = np.array([0, 0, 1, 2])
    assert value(Median(np.array([1.0, 9, 3, 4]), owner)) == 3.5
    assert value(Median(np.array([9.0, 4, 1]), np.arange(3))) == 4


def test_a_median_counts_a_query_as_often_as_its_image_is_drawn() -> None:
    """Against numpy's median of the queries written out."""
    random = np.random.default_rng(0)
    values, owner = random.integers(1, 9, 12).astype(float), np.repeat(np.arange(4), 3)
    weights = random.integers(0, 4, (20, 4)).astype(float)
    weights[:, 0] += 1
    found = bootstrap._weighted(Median(values, owner), weights)
    whole = [np.median(np.repeat(values, row[owner].astype(int))) for row in weights]
    assert found.tolist() == whole


def test_metrics_share_their_resamples() -> None:
    one, other = ratio([0, 1, 0, 1, 1.0]), ratio([1, 1, 0, 1, 0.0])
    few = ratio([0, 1.0])
    asked = {"resamples": 100, "confidence": 0.8, "seed": 0}
    base = {"a": one, "b": few}
    together, same = paired_gains(base, [{"a": other, "b": few}, base], **asked)
    assert together["a"] == paired_gain(one, other, **asked)
    assert list(together) == ["a", "b"]
    assert same["a"] == {"value": 0, "low": 0, "high": 0}


def test_how_many_are_drawn_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"resamples": 100, "confidence": 0.8, "seed": 0}
    arguments = (ratio([0, 1, 0, 1, 1.0]), ratio([1, 1, 0, 1, 0.0]))
    whole = paired_gain(*arguments, **asked)
    monkeypatch.setattr(bootstrap, "WEIGHTS", 15)
    assert paired_gain(*arguments, **asked) == whole


def test_hits_are_resampled_as_their_images_are() -> None:
    """Of 2 images with 1 gained a resample holds 0, 1 or 2 of it: a quarter, a half, a quarter."""
    one = paired_gain_of_hits(
        np.zeros(2), np.array([1.0, 0]), resamples=2000, confidence=0.6, seed=0
    )
    assert one == {"value": 0.5, "low": 0, "high": 1}
    one = paired_gain_of_hits(
        np.zeros(2), np.array([1.0, 0]), resamples=2000, confidence=0.4, seed=0
    )
    assert one == {"value": 0.5, "low": 0.5, "high": 0.5}
    random = np.random.default_rng(0)
    base, final = (random.random(300) < 0.6).astype(float), (random.random(300) < 0.7).astype(float)
    asked = {"resamples": 20_000, "confidence": 0.95, "seed": 0}
    by_weights = paired_gain(ratio(base), ratio(final), **asked)
    assert paired_gain_of_hits(base, final, **asked) == pytest.approx(by_weights, abs=0.005)
