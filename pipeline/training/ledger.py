"""How far a training is, kept on disk, so that a killed one goes on and ends with the same bits.

Checkpoints are taken between steps; how often changes what a kill costs and never a result, so it
is no param: at most a twentieth of the time goes into them.
"""

import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn, optim
from tqdm import tqdm

from pipeline.errors import ConfigError, TrainingError
from pipeline.training import together
from pipeline.training.average import Average
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.distributed import World
from pipeline.training.state import Rng, pack, rng_state, set_rng, unpack

EVERY_S = 60.0
SHARE = 20
"""Seconds between two checkpoints: so many, and so many times what the last one took."""

_BEST = "best."


@dataclass
class Progress:
    """The place in a training, and what it found so far.

    Attributes:
        history: a row for epoch 0 and each epoch that is done.
        best: the epoch whose weights are kept.
        step: steps taken.
        losses: of the steps of the epoch under way.
        recent: losses of the last steps.
        first: the loss at the start, by which a later one is judged.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    first: float | None = None


def every_s() -> float:
    """CLIPTUNE_CHECKPOINT_S, or the default; ConfigError for what is no number of seconds."""
    said = os.environ.get("CLIPTUNE_CHECKPOINT_S", "")
    try:
        seconds = float(said) if said else EVERY_S
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ConfigError(f"CLIPTUNE_CHECKPOINT_S is {said!r}: give seconds, as in 600")
    return seconds


class Ledger:
    """The checkpoints of a training under way.

    Attributes:
        at: how far it is.
        best_weights: those of the best epoch, by name.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        model: nn.Module,
        optimizer: optim.Optimizer,
        average: Average,
        *,
        world: World,
    ) -> None:
        """Nothing is read or written yet; without `checkpoints` nothing ever is."""
        self.at = Progress()
        self.best_weights: dict[str, Tensor] = {}
        self._checkpoints = checkpoints
        self._model, self._optimizer, self._average = model, optimizer, average
        self._world = world
        self._every = every_s()
        self._last, self._took = time.monotonic(), 0.0
        self._rng: Rng = rng_state()

    def restore(self) -> bool:
        """Go back to the newest sound checkpoint; whether there was one.

        Raises TrainingError where it is not of this training, or where the processes of one
        training do not see the same.
        """
        found = None if self._checkpoints is None else self._checkpoints.newest()
        self._agree(-1 if found is None else found.step)
        if found is None:
            return False
        caller = unpack(
            found,
            self._model,
            self._optimizer,
            ema=self._average.weights or None,
            process=self._world.rank,
        )
        self._average.steps = caller.pop("averaged")
        self.at = Progress(**caller)
        self.best_weights = {
            name.removeprefix(_BEST): tensor
            for name, tensor in found.tensors.items()
            if name.startswith(_BEST)
        }
        then = found.state["processes"]
        other = "" if then == self._world.size else f" of {then} processes, now {self._world.size}"
        tqdm.write(f"goes on at step {self.at.step + 1}, from a checkpoint{other}")
        return True

    def begin_step(self) -> None:
        """Remember the generators: a step that fails is to be taken anew with the same draws."""
        self._rng = rng_state()

    def keep_when_due(self) -> None:
        """A checkpoint, if the last one is old enough; between steps.

        Several processes end here, all of them, with SystemExit, when one was asked to.
        """
        if self._checkpoints is None:
            return
        due = time.monotonic() - self._last >= max(self._every, SHARE * self._took)
        first = due and self._world.rank == 0
        says = [int(first), self._world.asked()]
        keep, stop = together.most(says, self._world, self._device())
        if keep or stop:
            self._keep(self._checkpoints)
        if stop:
            tqdm.write(f"step {self.at.step} is kept: the same training goes on from there")
            raise SystemExit(128 + stop)

    def keep_at_once(self, *, failed: bool = False, met: bool = False) -> None:
        """A checkpoint of the last whole step, now; the step under way `failed` or has not begun.

        With several processes nothing happens unless all have `met` here: one alone can't.
        """
        alone = self._world.size > 1 and not met
        if self._checkpoints is None or alone or not self.at.history:
            return
        if failed:
            set_rng(self._rng)
        self._keep(self._checkpoints)
        tqdm.write(f"step {self.at.step} is kept: the same training goes on from there")

    def _keep(self, checkpoints: Checkpoints) -> None:
        start = time.monotonic()
        rngs = self._gathered(rng_state())
        if self._world.rank == 0:
            state: dict[str, Any] = {**asdict(self.at), "averaged": self._average.steps}
            tensors, packed = pack(
                self._model,
                self._optimizer,
                state=state,
                ema=self._average.weights or None,
                rngs=rngs,
            )
            best = {_BEST + name: tensor for name, tensor in self.best_weights.items()}
            checkpoints.save(self.at.step, {**tensors, **best}, packed)
        self._last = time.monotonic()
        self._took = self._last - start

    def _gathered(self, own: Rng) -> list[Rng]:
        """The generators of all processes, in order of rank."""
        if self._world.size == 1:
            return [own]
        device = self._device()
        found: list[dict[str, Tensor]] = [{} for _ in range(self._world.size)]
        for name, state in sorted(own.items()):
            parts = [state.to(device).clone() for _ in found]
            dist.all_gather(parts, state.to(device))
            for rng, part in zip(found, parts, strict=True):
                rng[name] = part.cpu()
        return list(found)

    def _agree(self, step: int) -> None:
        if self._world.size == 1:
            return
        own = torch.tensor([step], device=self._device())
        steps = [own.clone() for _ in range(self._world.size)]
        dist.all_gather(steps, own)
        if len({int(found.item()) for found in steps}) > 1:
            raise TrainingError(
                "the processes of this training find different checkpoints: the work trees of "
                "several machines must lie on one file system that all of them share"
            )

    def _device(self) -> Any:
        return next(self._model.parameters()).device
