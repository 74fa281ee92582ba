"""What a sweep tells people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.tuning.space import Values, as_text
from pipeline.tuning.study import Trial

Choice = Mapping[str, Any]
"""`choice` of metrics/evaluate.json."""


@dataclass(frozen=True)
class Sweep:
    """What came of it.

    Attributes:
        name: of the study, a hash of what it depends on.
        present: the values of params.yaml.
        best: of the trials.
        experiment: that of the best, to apply; None: the params as they stand are the best.
        choices: what `evaluate` chose of its model, and of that in the work tree; None: not known.
    """

    name: str
    metric: str
    trials: list[Trial]
    present: Values
    best: Trial
    experiment: str | None
    choices: tuple[Choice | None, Choice | None] = (None, None)


def table(sweep: Sweep) -> str:
    """The trials, best first, and what to do."""
    better = "lower" if sweep.metric == "val_loss" else "higher"
    keys = list(sweep.present)
    rows = [["trial", sweep.metric, *keys, "time", ""]]
    for trial in _ranked(sweep):
        values = [as_text(trial.values[key]) for key in keys]
        shown = "failed" if trial.value is None else f"{trial.value:.4f}"
        rows.append(
            [str(trial.number), shown, *values, duration(trial.seconds), _note(sweep, trial)]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False))
        + (f"  {row[-1]}" if row[-1] else "")
        for row in rows
    )
    head = f"study {sweep.name}, on the validation split ({better} is better)"
    end = (
        _nothing_better(sweep)
        if sweep.experiment is None
        else f"The best, evaluated, is the experiment {sweep.experiment}:\n"
        f"  dvc exp apply {sweep.experiment}{_finals(*sweep.choices)}"
    )
    return f"{head}\n\n{lines}\n\n{end}"


def _nothing_better(sweep: Sweep) -> str:
    """By how much, so that nobody has to look for two lines in the table."""
    others = [t for t in _ranked(sweep) if t.value is not None and t.number != sweep.best.number]
    second = "none of the others gave a value" if len(sweep.trials) > 1 else "it is the only one"
    if others:
        second = f"the best other one is trial {others[0].number}, {others[0].value:.4f}"
    return (
        "The params as they stand are the best: no trial was better than "
        f"trial {sweep.best.number}, {sweep.metric} {sweep.best.value:.4f}; {second}.\n"
        "So there is nothing to apply."
    )


def _finals(best: Choice | None, here: Choice | None) -> str:
    """What models/final is worth, for which the best may have had to give up what it gained."""
    if not best:
        return ""
    shown, so = f"{best['validation']:.4f}", ""
    if here and here["metric"] == best["metric"]:
        shown += f", and {here['validation']:.4f} that of this work tree"
        if best["validation"] <= here["validation"]:
            so = " So the model to use is no better than the one here."
    return (
        f"\nIts models/final, which forgets no more than evaluate.max_forgetting, has {shown} "
        f"({best['metric']}, validation split).{so}"
    )


def _ranked(sweep: Sweep) -> list[Trial]:
    sign = 1 if sweep.metric == "val_loss" else -1
    worst = float("inf")
    return sorted(
        (trial for trial in sweep.trials if trial.state != "open"),
        key=lambda t: (worst if t.value is None else sign * t.value, t.number),
    )


def _note(sweep: Sweep, trial: Trial) -> str:
    notes = [
        "best" if trial.number == sweep.best.number else "",
        "the params as they stand" if trial.values == sweep.present else "",
        trial.why,
    ]
    return ", ".join(filter(None, notes))


def listed(values: Values) -> str:
    """In a line."""
    return ", ".join(f"{key} {as_text(value)}" for key, value in values.items())


def duration(seconds: float) -> str:
    """As people read it: 5s, 2m05s, 3h20m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
