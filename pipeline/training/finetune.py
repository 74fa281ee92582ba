"""The training loop: the only one. Gradients flow here and in the gradient cache.

Shapes: B pairs of a batch, N and M all images and texts, D width of an embedding.
"""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.clip.embed import Matrix
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.errors import TrainingError
from pipeline.training import batches, gradcache, health, methods, optim, rates
from pipeline.training.auto import Settled
from pipeline.training.average import Average
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.compiling import compiled
from pipeline.training.distributed import ALONE, World, average_gradients, mean
from pipeline.training.known import NOTHING, Known
from pipeline.training.learner import Learner, coded
from pipeline.training.ledger import Ledger
from pipeline.training.showing import Steps
from pipeline.training.stopping import held
from pipeline.training.validate import Recalls, validate

Scores = Mapping[str, float]
Log = Callable[[Scores, int], None]

__all__ = ["Fit", "Log", "Matrix", "Recalls", "fit"]


class Fit(NamedTuple):
    """What a fine-tune leaves beside the weights."""

    best: int
    history: list[dict[str, float]]


class _Step(NamedTuple):
    """What a step took and gave."""

    loss: float
    norm: float
    rate: float
    seconds: float


def fit(
    clip: Clip,
    train: pd.DataFrame,
    val: pd.DataFrame,
    *,
    crops: Crops,
    params: Settled,
    seed: int,
    recalls: Recalls,
    log: Log,
    device: torch.device,
    world: World = ALONE,
    checkpoints: Checkpoints | None = None,
    failed: Path | None = None,
    known: Known = NOTHING,
) -> Fit:
    """Fine-tune `clip.model` on `train`; leave in it the weights of the epoch best on `val`.

    Epoch 0 is the model as it came, so that a training that only harms returns it unchanged.
    Towers that are `known` are looked up; it is the caller's that they don't train.
    Training ends early after `params.patience` epochs without a better one. One that was stopped
    goes on from the newest of `checkpoints`, and ends with the same weights to the bit.

    Raises TrainingError when there are fewer images than a batch, when the validation split is
    empty, and before a step that would spoil the weights: loss or gradients that are not finite, a
    loss that leaps, no memory left. Then the batch's rows are in the folder `failed`, and a
    checkpoint of the step before is kept.
    """
    images = batches.rows_by_image(train)
    per_epoch = batches.steps_per_epoch(len(images), params.batch_size)
    if val.empty:
        raise TrainingError("the validation split is empty: raise clean.split.val or add data")
    # Convolutions train 1.6 × as fast in this layout on a CPU; it is undone at the end, because
    # their last digits differ from those that plain OpenCLIP computes.
    model = clip.model.to(device).to(memory_format=torch.channels_last)
    with methods.prepared(model, params, seed=seed), compiled(model, wanted=params.compile):
        learner = Learner(
            clip, coded(train), crops, augment=params.augment, seed=seed,
            precision=params.precision,
            loss=methods.loss_of(model, params.loss), same_label=params.same_label,
            device=device, world=world, known=known, even=params.compile,
        )  # fmt: skip
        optimizer = rates.optimizer(model, params)
        average = Average(model, decay=params.ema)
        ledger = Ledger(checkpoints, model, optimizer, average, world=world)
        stepper = _Stepper(
            learner, optimizer, average, ledger, params=params, train=train, failed=failed,
            steps=params.epochs * per_epoch, world=world,
        )  # fmt: skip
        examine = partial(
            validate, clip, val, crops, params=params, loss=learner.loss, recalls=recalls,
            device=device, known=known, world=world,
        )  # fmt: skip
        try:
            if not ledger.restore():
                _keep_row(ledger, average, {"epoch": 0.0, **examine()}, params.best_by)
            at = ledger.at
            for row in at.history:
                log(row, int(row["epoch"]) * per_epoch)
            while len(at.history) <= params.epochs and not _tired(ledger, params.patience):
                name = f"epoch {len(at.history)}/{params.epochs}"
                optim.train_mode(model, freeze_batch_norm=params.freeze_batch_norm)
                order = batches.epoch(
                    images, batch_size=params.batch_size, seed=seed, number=len(at.history)
                )
                order = learner.pictures.epoch(
                    islice(order, len(at.losses), None),
                    number=len(at.history), part=world.rank, of=world.size,
                )  # fmt: skip
                after = (params.epochs - len(at.history)) * per_epoch
                shown = Steps(
                    order, name, done=len(at.losses), of=per_epoch, after=after,
                    quiet=world.rank > 0,
                )  # fmt: skip
                for rows in shown:
                    with held():
                        step = stepper.take(rows)
                    shown.took(step.loss)
                    log(_curve(step, len(rows), model, device), at.step)
                    ledger.keep_when_due()
                with average.applied():
                    found = examine()
                mean_loss = math.fsum(at.losses) / len(at.losses)
                row = {
                    "epoch": float(len(at.history)), "train_loss": mean_loss,
                    "lr": stepper.rate_of(at.step - 1), **found,
                }  # fmt: skip
                with held():
                    _keep_row(ledger, average, row, params.best_by)
                log({**row, "data_wait_share": learner.pictures.wait_share}, at.step)
                tqdm.write(
                    f"{name}: loss {mean_loss:.3f}, validation loss {row['val_loss']:.3f}, "
                    f"mean R@1 {row['val_mean_r1']:.1%}"
                )
        except (SystemExit, KeyboardInterrupt):
            ledger.keep_at_once()
            raise
        model.load_state_dict(ledger.best_weights)
    model.to(memory_format=torch.contiguous_format)
    return Fit(at.best, at.history)


class _Stepper:
    """Takes steps; a bad one is not taken."""

    def __init__(
        self,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        average: Average,
        ledger: Ledger,
        *,
        params: Settled,
        train: pd.DataFrame,
        failed: Path | None,
        steps: int,
        world: World,
    ) -> None:
        self._learner, self._optimizer, self._average = learner, optimizer, average
        self._ledger, self._params, self._train, self._failed = ledger, params, train, failed
        self._world = world
        self._towards = optim.Towards(learner.model, strength=params.toward_base)
        self.rate_of = partial(
            optim.learning_rate, steps=steps, warmup=params.warmup, peak=params.lr
        )

    def take(self, rows: batches.Rows) -> _Step:
        """A step on the B rows of all processes; TrainingError for one that is not taken."""
        start = time.perf_counter()
        self._ledger.begin_step()
        rate = optim.set_rate(self._optimizer, self.rate_of(self._ledger.at.step))
        try:
            loss, norm = self._gradient(rows)
        except (RuntimeError, MemoryError) as error:
            if not health.is_lack_of_memory(error):
                raise
            most = self._params.micro_batch or -(-len(rows) // self._world.size)
            raise self._stopped(
                f"no memory left for {most} pairs at once",
                f"set finetune.micro_batch to {max(most // 2, 1)}: the gradient stays the same",
                rows,
                met=False,
            ) from error
        at = self._ledger.at
        wrong = health.trouble(
            loss, norm, recent=at.recent, first=at.first, spike=self._params.spike
        )
        if wrong is not None:
            raise self._stopped(
                f"{wrong}, at learning rate {rate:.2g}",
                "lower finetune.lr or raise finetune.warmup",
                rows,
                met=True,
            )
        self._optimizer.step()
        self._towards.pull(rate)
        optim.clamp_scale(self._learner.model)
        self._average.update()
        at.step += 1
        at.losses.append(loss)
        at.recent = [*at.recent, loss][-health.RECENT :]
        if at.step == health.SETTLED:
            at.first = float(np.median(at.recent))
        return _Step(loss, norm, rate, time.perf_counter() - start)

    def _gradient(self, rows: batches.Rows) -> tuple[float, float]:
        """Gradients of the loss of all processes in the weights, clipped; loss and their norm."""
        weights = list(self._learner.model.parameters())
        self._optimizer.zero_grad(set_to_none=True)
        mine = np.array_split(rows, self._world.size)[self._world.rank]
        share = _backward(self._learner, mine, micro_batch=self._params.micro_batch)
        loss = mean(share, self._world)
        average_gradients(weights, self._world)
        norm = torch.nn.utils.clip_grad_norm_(weights, self._params.grad_clip)
        return loss.item(), norm.item()

    def _stopped(self, what: str, remedy: str, rows: batches.Rows, *, met: bool) -> TrainingError:
        """All processes `met` here: loss and norm are the same in all. Memory lacks in one."""
        self._ledger.keep_at_once(failed=True, met=met)
        folder = self._failed if self._world.rank == 0 or not met else None
        return health.stopped(
            what, remedy, step=self._ledger.at.step + 1, rows=self._train.iloc[rows], folder=folder
        )


def _backward(learner: Learner, rows: batches.Rows, *, micro_batch: int | None) -> Tensor:
    """Add the gradient of B rows to the weights; return this process's share of their loss."""
    cost = partial(learner.cost, rows=rows)
    if micro_batch is None or micro_batch >= len(rows):
        value = cost(learner.images(rows), learner.texts(rows))
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()
    parts = np.split(rows, np.arange(micro_batch, len(rows), micro_batch))
    return gradcache.backward(
        cost, embed_images=learner.images, images=parts, embed_texts=learner.texts, texts=parts,
        model=learner.model, device=learner.device,
    )  # fmt: skip


def _curve(step: _Step, pairs: int, model: torch.nn.Module, device: torch.device) -> Scores:
    """What the learning curves show of a step."""
    held_bytes = (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else psutil.Process().memory_info().rss
    )
    return {
        "loss": step.loss,
        "lr": step.rate,
        "grad_norm": step.norm,
        "logit_scale": model.logit_scale.exp().item(),  # type: ignore[operator]
        "samples_per_s": pairs / step.seconds,
        "memory_gb": held_bytes / 1e9,
    }


def _keep_row(ledger: Ledger, average: Average, row: dict[str, float], by: str) -> None:
    """Take in what validation found after an epoch, and the weights if it is the best."""
    at = ledger.at
    if not at.history or _better(row, at.history[at.best], by):
        at.best, ledger.best_weights = len(at.history), average.snapshot()
    at.history.append(row)
    at.losses = []


def _tired(ledger: Ledger, patience: int | None) -> bool:
    """Whether so many epochs went by without a better one."""
    epoch = len(ledger.at.history) - 1
    tired = patience is not None and epoch - ledger.at.best >= patience
    if tired:
        tqdm.write(f"no better epoch since {ledger.at.best}: stopped (finetune.patience)")
    return tired


def _better(row: dict[str, float], best: dict[str, float], by: str) -> bool:
    if by == "loss":
        return row["val_loss"] < best["val_loss"]
    return row["val_mean_r1"] > best["val_mean_r1"]
