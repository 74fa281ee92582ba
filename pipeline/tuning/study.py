"""The trials of a sweep, which Optuna keeps and proposes; a sweep that was killed goes on.

Optuna is imported where it is used: it is an extra, and takes half a second.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline import paths
from pipeline.errors import ConfigError
from pipeline.params import Params
from pipeline.sections_commands import Search
from pipeline.tuning.space import Values, holds, present, rounded, whole

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Trial:
    """A training and what became of it.

    Attributes:
        number: from 1; the first has the params as they stand.
        value: of the metric, where it is done.
        why: the reason, where it failed.
        seconds: it took so long, where it is over.
    """

    number: int
    values: Values
    state: Literal["open", "done", "failed"]
    value: float | None
    why: str
    seconds: float


@contextmanager
def opened(root: Path, name: str, params: Params) -> Iterator["Study"]:
    """The study `name` of the work tree at `root`, made where there is none.

    Raises ConfigError where Optuna is not installed.
    """
    try:
        import optuna  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "`cliptune tune` needs Optuna: pip install -e '.[tune]' brings it (`make setup` has it)"
        ) from None
    file = root / paths.WORK / "tune" / "studies.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its authors still try out, or of a step's end
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        try:
            direction = "minimize" if params.tune.metric == "val_loss" else "maximize"
            made = optuna.create_study(
                storage=storage, study_name=name, direction=direction, load_if_exists=True
            )
            yield Study(made, params)
        finally:
            storage.remove_session()
            storage.engine.dispose()


class Study:
    """The trials of one space, in one state of params, code and data."""

    def __init__(self, study: "optuna.Study", params: Params) -> None:
        """`opened` makes it."""
        self._study, self._params = study, params

    def trials(self) -> list[Trial]:
        """All that were begun, in order."""
        kept = self._study.user_attrs
        return [
            _trial(frozen, kept.get(f"why {frozen.number}", ""), kept.get(f"s {frozen.number}", 0))
            for frozen in self._study.get_trials(deepcopy=False)
            if "values" in frozen.user_attrs
        ]

    def next(self, limit: int) -> Trial | None:
        """One that was begun and not ended, else a new one; None: there are `limit`."""
        known = self.trials()
        left = next((trial for trial in known if trial.state == "open"), None)
        if left is not None or len(known) >= limit:
            return left
        asked = self._asked(len(known))
        return next(trial for trial in self.trials() if trial.number == asked + 1)

    def done(self, trial: Trial, value: float, *, seconds: float) -> None:
        """It gave a value."""
        self._study.set_user_attr(f"s {trial.number - 1}", seconds)
        self._study.tell(trial.number - 1, value)

    def failed(self, trial: Trial, why: str, *, seconds: float) -> None:
        """It gave none."""
        from optuna.trial import TrialState  # noqa: PLC0415

        self._study.set_user_attr(f"s {trial.number - 1}", seconds)
        self._study.set_user_attr(f"why {trial.number - 1}", why)
        self._study.tell(trial.number - 1, state=TrialState.FAIL)

    def best(self) -> Trial | None:
        """The best that is done; of equal ones the first. None: none is done."""
        sign = -1 if self._params.tune.metric == "val_loss" else 1
        done = [trial for trial in self.trials() if trial.value is not None]
        return max(done, key=lambda trial: (sign * (trial.value or 0), -trial.number), default=None)

    def keep_choice(self, trial: Trial, choice: Mapping[str, Any]) -> None:
        """What `evaluate` chose of the model of a trial that was run to the end."""
        self._study.set_user_attr(f"choice {trial.number}", dict(choice))

    def choice(self, trial: Trial) -> Mapping[str, Any] | None:
        """What was kept of it."""
        found: Mapping[str, Any] | None = self._study.user_attrs.get(f"choice {trial.number}")
        return found

    def _asked(self, known: int) -> int:
        """The number, as Optuna counts, of a new trial, whose values are known from here on."""
        import optuna  # noqa: PLC0415

        # Of each trial its own: a sampler that begins anew after a kill would repeat itself.
        seed = (self._params.seed * 1_000_003 + known) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        space, now = self._params.tune.space, present(self._params)
        asked = {key: _distribution(search) for key, search in space.items()}
        if known == 0:
            if all(holds(space[key], value) for key, value in now.items()):
                self._study.enqueue_trial(now, skip_if_exists=True)
            else:
                asked = {}  # a trial of which the sampler learns nothing
        trial = self._study.ask(asked)
        drawn = {key: rounded(space[key], value) for key, value in trial.params.items()}
        trial.set_user_attr("values", drawn if known else now)
        return trial.number


def _distribution(search: Search) -> "BaseDistribution":
    from optuna import distributions as of  # noqa: PLC0415

    if search.choices is not None:
        return of.CategoricalDistribution(search.choices)
    low, high = search.low, search.high
    if isinstance(low, int) and isinstance(high, int) and whole(search):
        return of.IntDistribution(low, high, log=bool(search.log), step=int(search.step or 1))
    return of.FloatDistribution(
        float(low or 0), float(high or 0), log=bool(search.log), step=search.step
    )


def _trial(frozen: "optuna.trial.FrozenTrial", why: str, seconds: float) -> Trial:
    states: dict[str, Literal["done", "failed"]] = {"COMPLETE": "done", "FAIL": "failed"}
    values: dict[str, Any] = frozen.user_attrs["values"]
    return Trial(
        frozen.number + 1, values, states.get(frozen.state.name, "open"), frozen.value, why, seconds
    )
