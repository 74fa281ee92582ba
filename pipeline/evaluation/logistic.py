"""Multinomial logistic regression, along a path of strengths of its penalty.

The loss is the mean cross-entropy + l2/2 · the squared weights; the bias is free. It is convex, so
what is found hangs on data and strength alone, and not on how it is sought: by full-batch L-BFGS
(Liu & Nocedal 1989), in float64. Embeddings of a model lie in a narrow cone, which would take
L-BFGS many steps; two changes of variables, which move no optimum, spare them. The vectors are
centred, for which the bias makes up, and turned to their principal axes, along which Böhning's
bound of the Hessian (1992, Ann. Inst. Statist. Math. 44) is diagonal: its root scales each axis.

Shapes: N vectors, C classes, D width.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.exact import CPU, Floats, Integers, Matrix

STEPS = 1000
"""Of L-BFGS for one strength, at most."""
MEMORY = 20
"""Steps from which L-BFGS estimates the Hessian."""
TOLERANCE = 1e-4
"""Largest entry of the gradient, in the scaled variables, at which the optimum counts as found."""


class Linear(NamedTuple):
    """A classifier.

    Attributes:
        weights: C×D.
        bias: C.
        converged: whether the optimum was found; else it is what STEPS steps led to.
    """

    weights: Floats
    bias: Floats
    converged: bool

    def answers(self, vectors: Matrix) -> Integers:
        """The best class of each of N vectors N×D, of equals the first: N."""
        if not len(vectors):
            return np.empty(0, np.int64)
        scores_NC = _tensor(vectors) @ _tensor(self.weights).T + _tensor(self.bias)
        found: Integers = scores_NC.argmax(dim=1).numpy()
        return found


def fitted(
    vectors: Matrix,
    actual: Integers,
    strengths: Sequence[float],
    *,
    classes: int,
    device: torch.device = CPU,
) -> Iterator[tuple[float, Linear]]:
    """Of each strength, the strongest first, the classifier of vectors N×D of the classes N.

    Each begins where the last one ended. A strength is above 0.
    """
    loss = _Loss(vectors, actual, classes=classes, device=device)
    weights = torch.zeros(loss.width + 1, classes, dtype=torch.float64, device=device)
    for l2 in sorted(set(strengths), reverse=True):
        weights, converged = loss.least(l2, start=weights)
        yield l2, loss.told(weights, converged=converged)


class _Loss:
    """The loss in the turned variables: (D + 1)×C, the bias last."""

    def __init__(
        self, vectors: Matrix, actual: Integers, *, classes: int, device: torch.device
    ) -> None:
        given_ND = _tensor(vectors).to(device)
        self._mean_D = given_ND.mean(dim=0)
        centred_ND = given_ND - self._mean_D
        spread_D, self._axes_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / len(vectors))
        self._spread_D = spread_D.clamp(min=0)
        self._turned_ND = centred_ND @ self._axes_DD
        self._actual_N1 = torch.from_numpy(actual).to(device)[:, None]
        self._classes = classes
        self.width = vectors.shape[1]

    def least(self, l2: float, *, start: Tensor) -> tuple[Tensor, bool]:
        """Where the loss is least, and whether that was found."""
        scale = self._scale(l2)
        scaled = start / scale
        search = torch.optim.LBFGS(
            [scaled],
            lr=1,
            max_iter=STEPS,
            tolerance_grad=TOLERANCE,
            tolerance_change=0,
            history_size=MEMORY,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            loss, gradient = self._at(scaled * scale, l2)
            scaled.grad = gradient * scale
            return loss

        search.step(closure)  # type: ignore[no-untyped-call]
        found = scaled * scale
        _, gradient = self._at(found, l2)
        return found, bool((gradient * scale).abs().max() <= TOLERANCE)

    def told(self, weights: Tensor, *, converged: bool) -> Linear:
        """The classifier in the variables of the vectors."""
        given_DC = self._axes_DD @ weights[:-1]
        bias_C = weights[-1] - self._mean_D @ given_DC
        return Linear(given_DC.T.cpu().numpy(), bias_C.cpu().numpy(), converged)

    def _scale(self, l2: float) -> Tensor:
        """Root of the inverse of the bound's diagonal: (D + 1)×1."""
        mixed = 1 / self._classes
        bound = torch.cat([mixed * self._spread_D + l2, torch.full_like(self._mean_D[:1], mixed)])
        return bound.rsqrt()[:, None]

    def _at(self, weights: Tensor, l2: float) -> tuple[Tensor, Tensor]:
        """Loss and gradient."""
        scores_NC = torch.addmm(weights[-1], self._turned_ND, weights[:-1])
        logs_NC = scores_NC.log_softmax(dim=1)
        entropy = -logs_NC.gather(1, self._actual_N1).mean()
        loss = entropy + l2 / 2 * weights[:-1].square().sum()
        off_NC = logs_NC.exp_()
        off_NC.scatter_add_(
            1, self._actual_N1, -torch.ones_like(self._actual_N1, dtype=off_NC.dtype)
        )
        off_NC /= len(off_NC)
        gradient = torch.cat(
            [self._turned_ND.T @ off_NC + l2 * weights[:-1], off_NC.sum(dim=0, keepdim=True)]
        )
        return loss, gradient


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(values).to(torch.float64)
