"""What can't work or is doubtful, told before anything is trained, with what would work.

Needs no torch, so that the doctor can ask it too.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.errors import TrainingError
from pipeline.training.auto import LARGE, Settled
from pipeline.training.batches import Rows

FAST = 1e-4
"""A peak rate above which a large pretrained model forgets first: CLIP-RSICD's 84 % at it, beside
88 % at 5e-6 (arthurzhang et al. 2021, github.com/arampacha/CLIP-rsicd); low-rank updates, whose
best rates are ten times those of full fine-tuning, aside."""

MOST = 0.5
"""Of a batch's pairs: above it, most teach nothing."""

MANY_CUT = 0.2
FEW_STEPS = 20
SMALL_BATCH = 32


class Outlook(NamedTuple):
    """What is known before training; None: not known.

    Attributes:
        images: distinct pictures to train on.
        told: the same as the beginning of a sentence.
        parameters: of the model.
        twins: see `twin_share`.
        truncated: share of the captions that the model cuts.
    """

    images: float
    told: str
    parameters: int | None
    twins: float | None = None
    truncated: float | None = None


class Doubt(NamedTuple):
    """A reason against training so; `stops`: it can't work, else it may not be worth it."""

    stops: bool
    key: str
    value: Any
    problem: str
    remedy: str


def check(params: Settled, outlook: Outlook, *, tell: Callable[[str], object]) -> None:
    """Tell each doubt in a line; TrainingError, with all reasons at once, where it can't work."""
    found = list(doubts(params, outlook))
    for doubt in found:
        if not doubt.stops:
            tell(f"warning: {_line(doubt)}")
    if reasons := [_line(doubt) for doubt in found if doubt.stops]:
        raise TrainingError("\n       ".join(reasons))


def doubts(params: Settled, outlook: Outlook) -> Iterator[Doubt]:
    """All that speaks against training so."""
    yield from _of_batches(params, outlook)
    yield from of_rate(params, outlook.parameters)
    yield from _of_twins(params, outlook.twins)
    yield from _of_cut(params, outlook.truncated)


def of_rate(params: Settled, parameters: int | None) -> Iterator[Doubt]:
    """Whether a model of so many parameters forgets at the peak rate."""
    large = parameters is not None and parameters >= LARGE
    if large and params.lr > FAST and params.method in ("full", "lit"):
        problem = "too fast for a pretrained model: it forgets first and learns then"
        yield Doubt(
            False, "finetune.lr", params.lr, problem, "set it to auto, or start near 1.0e-5"
        )


def steps(params: Settled, images: float) -> tuple[int, int, int]:
    """Steps of an epoch, of all, and of the warm-up, as the loop takes them."""
    per_epoch = int(images // params.batch_size)
    total = per_epoch * params.epochs
    return per_epoch, total, math.ceil(params.warmup * total)


def twin_share(image: Rows, kinds: Sequence[Rows]) -> float:
    """Which share of the pairs of two rows of a batch are twins, in the mean over all batches.

    A batch holds distinct images, each with one of its captions, all alike likely. Two rows are
    twins where they are equal in one of `kinds`; such a pair is no negative. Counted exactly, by
    inclusion and exclusion over the kinds; 0 where there is only one image.

    Args:
        image: of each of N pairs the number of its image, from 0.
        kinds: codes, each N; a negative code equals none.
    """
    images = np.bincount(image)
    if len(images) < 2:
        return 0.0
    frame = pd.DataFrame({"image": image, "weight": 1 / images[image]})
    frame = frame.assign(**{f"kind{i}": codes for i, codes in enumerate(kinds)})
    names = [f"kind{i}" for i in range(len(kinds))]
    total = math.fsum(
        (-1) ** (size + 1) * _equal(frame, list(several))
        for size in range(1, len(names) + 1)
        for several in combinations(names, size)
    )
    return min(max(total / (len(images) * (len(images) - 1)), 0.0), 1.0)


def _equal(frame: pd.DataFrame, names: list[str]) -> float:
    """Ordered pairs of distinct images that are equal in all of `names`, expected."""
    coded = frame[(frame[names] >= 0).all(axis=1)]
    within = coded.groupby([*names, "image"])["weight"].sum()
    among = within.groupby(level=names).sum()
    return float((among**2).sum() - (within**2).sum())


def _of_batches(params: Settled, outlook: Outlook) -> Iterator[Doubt]:
    images, size = outlook.images, params.batch_size
    per_epoch, total, rising = steps(params, images)
    key = "finetune.batch_size"
    if not per_epoch:
        problem = f"{outlook.told}: no batch is full, so no step"
        yield Doubt(True, key, size, problem, f"set it to {max(int(images) // 2, 2)}, or add data")
        return
    if size < SMALL_BATCH:
        problem = f"each caption is told from {size - 1} other pictures alone: little to learn from"
        yield Doubt(False, key, size, problem, "raise it as far as memory and data allow")
    if rising >= total:
        problem = f"all {total} steps are warm-up: the learning rate never falls"
        remedy = (
            "raise finetune.epochs" if total == 1 else "set it to 0.1, or raise finetune.epochs"
        )
        yield Doubt(True, "finetune.warmup", params.warmup, problem, remedy)
    if total < FEW_STEPS:
        problem = f"{total} steps in all: little will change"
        remedy = "raise finetune.epochs, or lower finetune.batch_size"
        yield Doubt(False, "finetune.epochs", params.epochs, problem, remedy)


def _of_twins(params: Settled, twins: float | None) -> Iterator[Doubt]:
    if twins is None or twins <= MOST:
        return
    key, limit = "finetune.max_twins", params.max_twins
    what = "picture or caption" if params.same_label == "negative" else "picture, caption or label"
    problem = f"{twins:.0%} of the pairs of two rows of a batch share {what}"
    if limit is not None and twins > limit:
        problem = f"{problem}: hardly anything is told apart"
        remedy = "write captions that tell pictures apart, or raise it"
        yield Doubt(True, key, limit, problem, remedy)
    else:
        left = (1 - twins) * (params.batch_size - 1)
        problem = f"{problem}: of {params.batch_size - 1} others {left:.3g} are negatives of a row"
        yield Doubt(False, key, limit, problem, "captions that tell more pictures apart teach more")


def _of_cut(params: Settled, truncated: float | None) -> Iterator[Doubt]:
    if truncated is None or truncated <= MANY_CUT:
        return
    key, limit = "finetune.max_truncated", params.max_truncated
    problem = f"the model reads the beginning alone of {truncated:.0%} of the captions"
    remedy = "shorten them, or take a model with a longer context"
    stops = limit is not None and truncated > limit
    yield Doubt(stops, key, limit, problem, f"{remedy}, or raise it" if stops else remedy)


def _line(doubt: Doubt) -> str:
    shown = "null" if doubt.value is None else doubt.value
    return f"{doubt.key} is {shown}: {doubt.problem}; {doubt.remedy}"
