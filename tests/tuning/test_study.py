"""The trials that Optuna proposes and keeps, without running any."""

import math
from pathlib import Path

import pytest

from pipeline import params as params_of
from pipeline.params import Params
from pipeline.tuning.study import Trial, opened
from tests.tuning.sweeping import with_space

TWO = """\
finetune.lr: {low: 1.0e-4, high: 1.0e-1, log: true}
    finetune.ema: {choices: [null, 0.9]}
    finetune.epochs: {low: 5, high: 20, step: 5}"""


def loaded(folder: Path, text: str, *, seed: int = 0, metric: str = "val_mean_r1") -> Params:
    file = folder / "params.yaml"
    content = with_space(text).replace("\nseed: 0", f"\nseed: {seed}")
    file.write_text(content.replace("\n  metric: val_mean_r1", f"\n  metric: {metric}"))
    return params_of.load(Params, file)


def worth(trial: Trial) -> float:
    return 1 - abs(math.log10(trial.values["finetune.lr"]) + 3)


def proposed(root: Path, params: Params, *, limit: int, each: int) -> list[Trial]:
    """All trials of a study that is opened anew after `each` of them."""
    while True:
        with opened(root, "study", params) as study:
            for _ in range(each):
                trial = study.next(limit)
                if trial is None:
                    return study.trials()
                study.done(trial, worth(trial), seconds=1.0)


def test_a_study_is_repeatable_and_may_be_broken_off(tmp_path: Path) -> None:
    params = loaded(tmp_path, TWO)
    whole = proposed(tmp_path / "whole", params, limit=16, each=100)
    broken = proposed(tmp_path / "broken", params, limit=16, each=3)
    assert whole == broken
    assert len({str(trial.values) for trial in whole}) >= 15
    other = proposed(tmp_path / "other", loaded(tmp_path, TWO, seed=1), limit=3, each=3)
    assert other[1].values != whole[1].values


def test_a_study_finds_what_is_better(tmp_path: Path) -> None:
    trials = proposed(tmp_path, loaded(tmp_path, TWO), limit=40, each=40)
    drawn, guided = trials[1:10], trials[25:]
    assert sum(map(worth, guided)) / len(guided) > sum(map(worth, drawn)) / len(drawn) + 0.2
    assert {trial.values["finetune.epochs"] for trial in trials} == {5, 10, 15, 20}
    assert {trial.values["finetune.ema"] for trial in trials} == {None, 0.9}


def test_the_first_trial_is_the_present_even_outside_of_the_space(tmp_path: Path) -> None:
    params = loaded(tmp_path, "finetune.lr: {low: 1.0e-2, high: 1.0e-1, log: true}")
    first, second = proposed(tmp_path, params, limit=2, each=2)
    assert first.values == {"finetune.lr": 5e-4}
    assert 1e-2 <= second.values["finetune.lr"] <= 1e-1


def test_a_trial_that_was_not_ended_comes_again(tmp_path: Path) -> None:
    params = loaded(tmp_path, TWO)
    with opened(tmp_path, "study", params) as study:
        left = study.next(5)
    with opened(tmp_path, "study", params) as study:
        again = study.next(5)
        assert again is not None
        assert again == left
        study.failed(again, "no memory", seconds=2.0)
        assert study.best() is None
        (kept,) = study.trials()
        assert (kept.state, kept.why, kept.seconds, kept.value) == ("failed", "no memory", 2, None)
        assert study.next(1) is None


@pytest.mark.parametrize(("metric", "best"), [("val_mean_r1", 2), ("val_loss", 1)])
def test_the_best_is_the_highest_or_lowest_and_of_equals_the_first(
    tmp_path: Path, metric: str, best: int
) -> None:
    with opened(tmp_path, "study", loaded(tmp_path, TWO, metric=metric)) as study:
        for value in (0.1, 0.4, 0.4, 0.1):
            trial = study.next(4)
            assert trial is not None
            study.done(trial, value, seconds=1.0)
        found = study.best()
    assert found is not None
    assert found.number == best
