"""A running mean of the weights (Polyak & Juditsky 1992), which forgets and jitters less."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of what trains; without a decay, the weights themselves.

    The first steps count more: the decay begins at 2/11 and rises with the steps, so that the mean
    does not remember the start for long.
    """

    def __init__(self, model: nn.Module, *, decay: float | None) -> None:
        """Begin with the weights as they are."""
        self._model, self._decay = model, decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {}
        if decay is not None:
            self.weights = {name: w.detach().clone() for name, w in _training(model)}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        if self._decay is None:
            return
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        for name, weight in _training(self._model):
            self.weights[name].lerp_(weight.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the mean in place of its weights."""
        own = {name: w.detach().clone() for name, w in _training(self._model) if self.weights}
        self._set(self.weights)
        try:
            yield
        finally:
            self._set(own)

    def snapshot(self) -> dict[str, Any]:
        """A copy on the CPU of the whole model, the mean in place of what trains."""
        with self.applied():
            state = self._model.state_dict()
            return {name: weight.detach().cpu().clone() for name, weight in state.items()}

    @torch.no_grad()
    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, weight in _training(self._model):
            if name in weights:
                weight.copy_(weights[name])


def _training(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    yield from ((name, w) for name, w in model.named_parameters() if w.requires_grad)
