"""What is said of a sweep at its end."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.tuning.study import Trial
from pipeline.tuning.told import Sweep, table


def trial(number: int, value: float | None) -> Trial:
    lr = 5e-4 if number == 1 else number / 100
    state = "failed" if value is None else "done"
    return Trial(number, {"finetune.lr": lr}, state, value, "", 1.0)  # type: ignore[arg-type]


def told(*values: float | None, metric: str = "val_mean_r1") -> list[str]:
    """The end, where trial 1, the params as they stand, is the best."""
    trials = [trial(number, value) for number, value in enumerate(values, start=1)]
    sweep = Sweep("abc", metric, trials, trials[0].values, trials[0], None)
    return table(sweep).splitlines()[-2:]


@pytest.mark.parametrize(
    ("values", "metric", "second"),
    [
        ((0.612, 0.5, 0.601), "val_mean_r1", "the best other one is trial 3, 0.6010"),
        ((0.612, 0.612, 0.601), "val_mean_r1", "the best other one is trial 2, 0.6120"),
        ((0.612, None, 0.7), "val_loss", "the best other one is trial 3, 0.7000"),
        ((0.612, None), "val_mean_r1", "none of the others gave a value"),
        ((0.612,), "val_mean_r1", "it is the only one"),
    ],
)
def test_where_nothing_is_better_the_figures_say_so(
    values: tuple[float | None, ...], metric: str, second: str
) -> None:
    assert told(*values, metric=metric) == [
        "The params as they stand are the best: no trial was better than trial 1, "
        f"{metric} 0.6120; {second}.",
        "So there is nothing to apply.",
    ]


def choice(validation: float) -> dict[str, Any]:
    return {"metric": "top1", "validation": validation}


@pytest.mark.parametrize(("here", "better"), [(0.6, True), (0.7, False), (0.8, False)])
def test_a_better_trial_whose_model_is_no_better_says_so(here: float, better: bool) -> None:
    trials = [trial(1, 0.6), trial(2, 0.65)]
    best = Sweep("abc", "val_mean_r1", trials, trials[0].values, trials[1], "tune-best-abc-02")
    text = table(replace(best, choices=(choice(0.7), choice(here))))
    assert f"has 0.7000, and {here:.4f} that of this work tree (top1" in text
    assert ("So the model to use is no better than the one here." in text) != better
