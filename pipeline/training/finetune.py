"""The training loop: the only one. Gradients flow here and in the gradient cache.

Shapes: B pairs of a batch, N and M all images and texts, D width of an embedding.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.clip.embed import Matrix
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.errors import TrainingError
from pipeline.params import FinetuneParams
from pipeline.training import batches, gradcache, methods, optim, rates
from pipeline.training.average import Average
from pipeline.training.distributed import ALONE, World, average_gradients, mean
from pipeline.training.learner import Learner, coded
from pipeline.training.validate import Recalls, validate

Scores = Mapping[str, float]
Log = Callable[[Scores, int], None]

__all__ = ["Fit", "Log", "Matrix", "Recalls", "fit"]


class Fit(NamedTuple):
    """What a fine-tune leaves beside the weights."""

    best: int
    history: list[dict[str, float]]


def fit(
    clip: Clip,
    train: pd.DataFrame,
    val: pd.DataFrame,
    *,
    crops: Crops,
    params: FinetuneParams,
    seed: int,
    recalls: Recalls,
    log: Log,
    device: torch.device,
    world: World = ALONE,
) -> Fit:
    """Fine-tune `clip.model` on `train`; leave in it the weights of the epoch best on `val`.

    Epoch 0 is the model as it came, so that a training that only harms returns it unchanged.
    Training ends early after `params.patience` epochs without a better one.

    Raises TrainingError when there are fewer images than a batch, when the validation split is
    empty, and when loss or gradients are not finite: before the step that would spoil the weights.
    """
    images = batches.rows_by_image(train)
    per_epoch = batches.steps_per_epoch(len(images), params.batch_size)
    if val.empty:
        raise TrainingError("the validation split is empty: raise clean.split.val or add data")
    # Convolutions train 1.6 × as fast in this layout on a CPU; it is undone at the end, because
    # their last digits differ from those that plain OpenCLIP computes.
    model = clip.model.to(device).to(memory_format=torch.channels_last)
    with methods.prepared(model, params, seed=seed):
        learner = Learner(
            clip, coded(train), crops, precision=params.precision,
            loss=methods.loss_of(model, params.loss), same_label=params.same_label,
            device=device, world=world,
        )  # fmt: skip
        optimizer = rates.optimizer(model, params)
        average = Average(model, decay=params.ema)
        towards = optim.Towards(model, strength=params.toward_base)
        rate_of = partial(
            optim.learning_rate,
            steps=params.epochs * per_epoch, warmup=params.warmup, peak=params.lr,
        )  # fmt: skip
        examine = partial(
            validate, clip, val, crops, params=params, loss=learner.loss, recalls=recalls,
            device=device,
        )  # fmt: skip

        history = [{"epoch": 0.0, **examine()}]
        log(history[0], 0)
        best, best_weights, step = 0, average.snapshot(), 0
        for number in range(1, params.epochs + 1):
            optim.train_mode(model, freeze_batch_norm=params.freeze_batch_norm)
            losses = []
            order = batches.epoch(images, batch_size=params.batch_size, seed=seed, number=number)
            name = f"epoch {number}/{params.epochs}"
            for rows in (bar := tqdm(order, name, per_epoch, leave=False, disable=None)):
                rate = optim.set_rate(optimizer, rate_of(step))
                optimizer.zero_grad(set_to_none=True)
                mine = np.array_split(rows, world.size)[world.rank]
                loss = mean(_backward(learner, mine, micro_batch=params.micro_batch), world)
                average_gradients(model.parameters(), world)
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), params.grad_clip)
                _stop_unless_finite(loss, norm, step=step, rate=rate, rows=train.iloc[rows])
                optimizer.step()
                towards.pull(rate)
                optim.clamp_scale(model)
                average.update()
                step += 1
                losses.append(loss.item())
                bar.set_postfix(loss=f"{losses[-1]:.3f}")
                log({"loss": losses[-1], "lr": rate, "grad_norm": norm.item()}, step)
            with average.applied():
                found = examine()
            mean_loss = math.fsum(losses) / len(losses)
            row = {"epoch": float(number), "train_loss": mean_loss, "lr": rate, **found}
            history.append(row)
            log(row, step)
            tqdm.write(
                f"{name}: loss {mean_loss:.3f}, validation loss {row['val_loss']:.3f}, "
                f"mean R@1 {row['val_mean_r1']:.1%}"
            )
            if _better(row, history[best], params.best_by):
                best, best_weights = number, average.snapshot()
            if params.patience is not None and number - best >= params.patience:
                tqdm.write(f"no better epoch since {best}: stopped (finetune.patience)")
                break
        model.load_state_dict(best_weights)
    model.to(memory_format=torch.contiguous_format)
    return Fit(best, history)


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


def _better(row: dict[str, float], best: dict[str, float], by: str) -> bool:
    if by == "loss":
        return row["val_loss"] < best["val_loss"]
    return row["val_mean_r1"] > best["val_mean_r1"]


def _stop_unless_finite(
    loss: Tensor, norm: Tensor, *, step: int, rate: float, rows: pd.DataFrame
) -> None:
    if torch.isfinite(loss) and torch.isfinite(norm):
        return
    raise TrainingError(
        f"step {step + 1}: loss {loss.item():g}, gradient norm {norm.item():g} at learning rate "
        f"{rate:.2g}: stopped before the step; lower finetune.lr or raise finetune.warmup "
        f"(the batch begins with source row {rows['source_row'].iloc[0]})"
    )
