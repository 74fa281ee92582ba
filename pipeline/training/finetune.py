"""The training loop: the only one, and the only place where gradients flow.

Shapes: B pairs of a batch, D width of an embedding.
"""

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.clip import device as devices
from pipeline.clip.embed import Matrix, embed_images, embed_texts
from pipeline.clip.losses import info_nce, positives
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.pairs import caption_key
from pipeline.errors import TrainingError
from pipeline.params import FinetuneParams
from pipeline.training import batches, optim

Scores = Mapping[str, float]
Recalls = Callable[[Matrix, Matrix, batches.Rows], Scores]
"""Evaluator: images N×D, texts M×D, the image of each text M → scores, `mean_r1` among them."""

Log = Callable[[Scores, int], None]


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
) -> Fit:
    """Fine-tune `clip.model` on `train`; leave in it the weights of the epoch best on `val`.

    Epoch 0 is the model as it came, so that a training that only harms returns it unchanged.

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
    optimizer = optim.optimizer(model, params)
    rates = partial(
        optim.learning_rate, steps=params.epochs * per_epoch, warmup=params.warmup, peak=params.lr
    )
    load = partial(_batch, clip, crops, _coded(train), device=device)
    validate = partial(_validate, clip, val, crops, params=params, recalls=recalls, device=device)

    history = [{"epoch": 0.0, **validate()}]
    log(history[0], 0)
    best, best_weights, step = 0, _snapshot(clip), 0
    for number in range(1, params.epochs + 1):
        optim.train_mode(model, freeze_batch_norm=params.freeze_batch_norm)
        losses = []
        order = batches.epoch(images, batch_size=params.batch_size, seed=seed, number=number)
        bar = tqdm(order, f"epoch {number}/{params.epochs}", per_epoch, leave=False, disable=None)
        for rows in bar:
            rate = optim.set_rate(optimizer, rates(step))
            batch = load(rows)
            with devices.autocast(device, params.precision):
                image_BD, text_BD, scale = model(batch.pixels, batch.tokens)[:3]
            loss = info_nce(image_BD.float(), text_BD.float(), scale.float(), batch.positive)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), params.grad_clip)
            _stop_unless_finite(loss, norm, step=step, rate=rate, rows=train.iloc[rows])
            optimizer.step()
            optim.clamp_scale(model)
            step += 1
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
            log({"loss": losses[-1], "lr": rate, "grad_norm": norm.item()}, step)
        row = {
            "epoch": float(number),
            "train_loss": math.fsum(losses) / len(losses),
            "lr": rate,
            **validate(),
        }
        history.append(row)
        log(row, step)
        tqdm.write(
            f"epoch {number}/{params.epochs}: loss {row['train_loss']:.3f}, validation loss "
            f"{row['val_loss']:.3f}, mean R@1 {row['val_mean_r1']:.1%}"
        )
        if _better(row, history[best], params.best_by):
            best, best_weights = number, _snapshot(clip)
    model.load_state_dict(best_weights)
    model.to(memory_format=torch.contiguous_format)
    return Fit(best, history)


class _Coded(NamedTuple):
    """The training pairs, with a number for each distinct image and each distinct caption."""

    image_ids: Any
    captions: Any
    image_codes: Tensor
    caption_codes: Tensor


class _Batch(NamedTuple):
    """What the model sees of B pairs, and which of them say the same: bool B×B."""

    pixels: Tensor
    tokens: Tensor
    positive: Tensor


def _coded(pairs: pd.DataFrame) -> _Coded:
    return _Coded(
        pairs["image_id"].to_numpy(dtype=object),
        pairs["caption"].to_numpy(dtype=object),
        torch.from_numpy(batches.codes(pairs["image_id"])),
        torch.from_numpy(batches.codes(pairs["caption"].map(caption_key))),
    )


def _batch(
    clip: Clip, crops: Crops, pairs: _Coded, rows: batches.Rows, *, device: torch.device
) -> _Batch:
    return _Batch(
        clip.pixels(crops.batch(list(pairs.image_ids[rows])).to(device)),
        clip.tokenizer(list(pairs.captions[rows])).to(device),
        positives(pairs.image_codes[rows], pairs.caption_codes[rows]).to(device),
    )


def _validate(
    clip: Clip,
    val: pd.DataFrame,
    crops: Crops,
    *,
    params: FinetuneParams,
    recalls: Recalls,
    device: torch.device,
) -> dict[str, float]:
    """Loss and retrieval on the whole validation split, in its own fixed order."""
    owner, ids = pd.factorize(val["image_id"], sort=True)
    size = params.batch_size
    with devices.autocast(device, params.precision):
        images = embed_images(clip, crops, list(ids), batch_size=size, device=device)
        texts = embed_texts(clip, list(val["caption"]), batch_size=size, device=device)
    first = np.unique(owner, return_index=True)[1]
    scale = clip.model.logit_scale.detach().exp().cpu()  # type: ignore[operator]
    keys = batches.codes(val["caption"].map(caption_key))[first]
    return {
        "val_loss": _loss_in_blocks(images, texts[first], scale, keys, size=size),
        "logit_scale": scale.item(),
        **{f"val_{name}": value for name, value in recalls(images, texts, owner).items()},
    }


def _loss_in_blocks(
    images: Matrix, texts: Matrix, scale: Tensor, keys: batches.Rows, *, size: int
) -> float:
    """Mean loss over blocks of a training batch's size, so that both have as many negatives."""
    order = np.random.default_rng(0).permutation(len(images))
    total = 0.0
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        mask = positives(torch.from_numpy(rows), torch.from_numpy(keys[rows]))
        image_BD, text_BD = torch.from_numpy(images[rows]), torch.from_numpy(texts[rows])
        total += info_nce(image_BD, text_BD, scale, mask).item() * len(rows)
    return total / len(order)


def _better(row: dict[str, float], best: dict[str, float], by: str) -> bool:
    if by == "loss":
        return row["val_loss"] < best["val_loss"]
    return row["val_mean_r1"] > best["val_mean_r1"]


def _snapshot(clip: Clip) -> dict[str, Any]:
    return copy.deepcopy({name: w.cpu() for name, w in clip.model.state_dict().items()})


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
