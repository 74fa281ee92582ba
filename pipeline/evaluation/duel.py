"""Two models on the same pictures: what the challenger gains and loses beside the champion.

Each was measured when it was made, on the data of then. To choose between them both are measured
anew, on the test split and the general sets of now, so that every figure is of the same pictures
and its interval that of paired differences.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.errors import DataError
from pipeline.evaluation import slices
from pipeline.evaluation.bootstrap import paired_gains, value
from pipeline.evaluation.headline import headline
from pipeline.evaluation.score import Scored, score
from pipeline.evaluation.sets import TARGET, EvalSet
from pipeline.params import EvaluateParams


@dataclass(frozen=True)
class Outcome:
    """A metric of one set: shares or ranks, and challenger − champion with its interval."""

    champion: float
    challenger: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Duel:
    """What was found.

    Attributes:
        metric: the name of the figure that speaks for each set, by set; `target` is the test split.
        outcomes: by set and metric.
        slices: parts of the test split, as slices.py has them; `base` is the champion, `final` the
            challenger.
        won, lost: test pictures that the challenger alone gets right, and the champion alone.
        luck: the chance of a difference as large if neither were better, McNemar's exact test.
        level: of that test, as that of the intervals.
    """

    metric: dict[str, str]
    outcomes: dict[str, dict[str, Outcome]]
    slices: list[dict[str, Any]]
    won: int = 0
    lost: int = 0
    luck: float = 1.0
    level: float = 0.05

    def main(self, name: str) -> Outcome:
        """The outcome that speaks for a set."""
        return self.outcomes[name][self.metric[name]]


def duel(
    champion: Clip,
    challenger: Clip,
    sets: Mapping[str, EvalSet],
    params: EvaluateParams,
    *,
    columns: pd.DataFrame,
    seed: int,
    device: torch.device,
) -> Duel:
    """Measure both models on each set; `columns`: by which the test pictures are cut as well.

    Raises what `score` does.
    """
    metric: dict[str, str] = {}
    outcomes: dict[str, dict[str, Outcome]] = {}
    parts: list[dict[str, Any]] = []
    won, lost, luck = 0, 0, 1.0
    for name, data in sets.items():
        one, other = (
            score(clip, data, Crops(clip, data.places), params, device=device)
            for clip in (champion, challenger)
        )
        metric[name] = headline(one.metrics)
        outcomes[name] = _outcomes(one, other, params, seed=seed)
        if name == TARGET:
            said = side_by_side(one, other, data)
            right = slices.hits(said, metric[name])
            base, final = right["base"].to_numpy(), right["final"].to_numpy()
            won, lost = int((final > base).sum()), int((final < base).sum())
            luck = slices.mcnemar(base, final)
            parts = slices.table(
                slices.cuts(data.pairs, columns),
                said,
                metric=metric[name],
                least=params.slices.least,
                resamples=params.bootstrap,
                confidence=params.confidence,
                seed=seed,
            )
    level = 1 - params.confidence
    return Duel(metric, outcomes, parts, won=won, lost=lost, luck=luck, level=level)


def without(data: EvalSet, images: Collection[str]) -> tuple[EvalSet, int]:
    """A set less these images and near-duplicates of theirs, and how many that were.

    Raises DataError where none would be left.
    """
    pairs = data.pairs
    held = pairs["image_id"].isin(list(images))
    held |= pairs["image_group"].isin(pairs.loc[held, "image_group"].dropna())
    if not held.any():
        return data, 0
    if held.all():
        raise DataError(
            "the champion was trained on every test picture of now: nothing is left to compare it "
            "on; keep the seed and clean.split, or your own split, as they were"
        )
    rest = replace(data, pairs=pairs[~held].reset_index(drop=True))
    return rest, int(pairs.loc[held, "image_id"].nunique())


def side_by_side(one: Scored, other: Scored, data: EvalSet) -> pd.DataFrame:
    """A row an image: its label, and what either model (`base`, `final`) said of it."""
    first = data.pairs.drop_duplicates("image_id")[["image_id", "label"]]
    columns = {"label": "label", "rank_i2t": "rank_i2t"}
    for model, scored in (("base", one), ("final", other)):
        said = scored.said.set_index("image_id")[list(columns)]
        first = first.merge(said.add_prefix(f"{model}_"), left_on="image_id", right_index=True)
    return first


def _outcomes(
    one: Scored, other: Scored, params: EvaluateParams, *, seed: int
) -> dict[str, Outcome]:
    (gains,) = paired_gains(
        one.metrics,
        [other.metrics],
        resamples=params.bootstrap,
        confidence=params.confidence,
        seed=seed,
    )
    return {
        name: Outcome(
            value(one.metrics[name]),
            value(other.metrics[name]),
            gain["value"],
            gain["low"],
            gain["high"],
        )
        for name, gain in gains.items()
    }
