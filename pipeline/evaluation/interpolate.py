"""The line of models between base and fine-tuned one, and the point on it that is kept.

A fine-tune moves the weights from θ₀ to θ₁. On the way, (1 − α) θ₀ + α θ₁, most of what was gained
is gained early and most of what was forgotten is forgotten late, so that a point before the end
often is as good at the target and forgets less (WiSE-FT, Wortsman et al. 2022; PAINT, Ilharco et
al. 2022). The point is chosen on the validation split, never on test.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, lerp

from pipeline.clip.model import Clip
from pipeline.errors import ModelError

State = Mapping[str, Tensor]


class Alike(NamedTuple):
    """Whether two models embed images alike, and texts."""

    images: bool
    texts: bool


@dataclass(frozen=True)
class Point:
    """A model of the line.

    Attributes:
        alpha: 0 the base, 1 the fine-tuned model.
        target: its figure on the validation split, a share.
        general: its figure on each general set, by name.
    """

    alpha: float
    target: float
    general: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """The point kept, and what stood in its way.

    Attributes:
        point: of all that forget little enough, the one that is best at the target.
        forgotten: what it lost on the general set that lost most, a share; below 0 it gained.
        bound: how much it might lose, a share; None: no bound.
        unbound: the point that would be kept without a bound.
    """

    point: Point
    forgotten: float
    bound: float | None
    unbound: Point


def between(base: Clip, finetuned: Clip, alpha: float) -> Clip:
    """The model at `alpha` from 0 to 1; either end is the model given, bit for bit.

    The logit scale is a logarithm in both, so its exponential goes from one to the other
    geometrically. Raises ModelError where the two are not of one shape.
    """
    ends = (base.model.state_dict(), finetuned.model.state_dict())
    _check(base, *ends)
    if alpha in (0.0, 1.0):
        return base if alpha == 0.0 else finetuned
    model = copy.deepcopy(finetuned.model)
    model.load_state_dict(mixed(*ends, alpha))
    return replace(finetuned, model=model, fingerprint="")


def alike(base: Clip, finetuned: Clip) -> Alike:
    """Which towers of the two, of one shape, have the same weights bit for bit.

    Whatever `between` makes of such a tower is that tower, so its embeddings are known.
    """
    start, end = (clip.model.state_dict() for clip in (base, finetuned))
    differing = [name for name, value in end.items() if not torch.equal(start[name], value)]
    image = [name for name in differing if name.startswith("visual.")]
    scales = {"logit_scale", "logit_bias"} & set(differing)
    return Alike(images=not image, texts=len(differing) == len(image) + len(scales))


def mixed(start: State, end: State, alpha: float) -> dict[str, Tensor]:
    """Weights and running statistics at `alpha`; what is not a float (a counter) is the end's."""
    return {
        name: lerp(start[name], value, alpha) if value.is_floating_point() else value
        for name, value in end.items()
    }


def choose(points: Sequence[Point], *, max_forgetting: float | None) -> Choice:
    """The point that is best at the target among those within the bound; of equals, the nearest.

    `points` hold the base, at alpha 0, which forgets nothing and so is always within the bound.
    `max_forgetting` is a share: what the worst general set may lose; None: no bound.
    """
    base = next(point for point in points if point.alpha == 0)
    limit = float("inf") if max_forgetting is None else max_forgetting
    # A loss of exactly the bound must not be over it by a last bit.
    within = [point for point in points if forgetting(base, point) <= limit + 1e-9]
    kept = _best(within)
    return Choice(kept, forgetting(base, kept), max_forgetting, _best(points))


def forgetting(base: Point, point: Point) -> float:
    """What `point` lost on the general set that lost most; 0 where there is none."""
    losses = [share - point.general[name] for name, share in base.general.items()]
    return max(losses, default=0.0)


def _best(points: Sequence[Point]) -> Point:
    return max(points, key=lambda point: (point.target, -point.alpha))


def _check(base: Clip, start: State, end: State) -> None:
    shapes = [{name: value.shape for name, value in state.items()} for state in (start, end)]
    differing = sorted(
        name for name in shapes[0].keys() | shapes[1].keys()
        if shapes[0].get(name) != shapes[1].get(name)
    )  # fmt: skip
    if differing:
        raise ModelError(
            f"base and fine-tuned model of {base.architecture} differ in {len(differing)} weights, "
            f"the first {differing[0]}: `dvc repro finetune` makes one of this base"
        )
