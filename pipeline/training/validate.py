"""Loss and retrieval on the validation split, in its own fixed order.

Shapes: N images, M texts, D width of an embedding.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.clip import device as devices
from pipeline.clip.embed import Matrix, embed_images, embed_texts
from pipeline.clip.losses import LossName, info_nce, positives, sigmoid
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.pairs import caption_key
from pipeline.training import batches
from pipeline.training.auto import Settled
from pipeline.training.known import NOTHING, Known

Recalls = Callable[[Matrix, Matrix, batches.Rows], Mapping[str, float]]
"""Evaluator: images N×D, texts M×D, the image of each text M → scores, `mean_r1` among them."""


def validate(
    clip: Clip,
    val: pd.DataFrame,
    crops: Crops,
    *,
    params: Settled,
    loss: LossName,
    recalls: Recalls,
    device: torch.device,
    known: Known = NOTHING,
) -> dict[str, float]:
    """Loss on each image with its first caption, retrieval on all captions, and the scale."""
    owner, ids = pd.factorize(val["image_id"], sort=True)
    size = params.batch_size
    captions = list(val["caption"])
    clip.model.eval()
    with devices.autocast(device, params.precision):
        images = (
            embed_images(clip, crops, list(ids), batch_size=size, device=device)
            if known.images is None
            else known.images.all(list(ids))
        )
        texts = (
            embed_texts(clip, captions, batch_size=size, device=device)
            if known.texts is None
            else known.texts.all(captions)
        )
    first = np.unique(owner, return_index=True)[1]
    scale = clip.model.logit_scale.detach().exp().cpu()  # type: ignore[operator]
    bias = clip.model.logit_bias.detach().cpu() if loss == "sigmoid" else None  # type: ignore[operator]
    keys = batches.codes(val["caption"].map(caption_key))[first]
    return {
        "val_loss": _loss_in_blocks(images, texts[first], scale, bias, keys, size=size),
        "logit_scale": scale.item(),
        **{f"val_{name}": value for name, value in recalls(images, texts, owner).items()},
    }


def _loss_in_blocks(
    images: Matrix,
    texts: Matrix,
    scale: Tensor,
    bias: Tensor | None,
    keys: batches.Rows,
    *,
    size: int,
) -> float:
    """Mean loss over blocks of a training batch's size, so that both have as many negatives."""
    order = np.random.default_rng(0).permutation(len(images))
    total = 0.0
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        mask = positives(torch.from_numpy(rows), torch.from_numpy(keys[rows]))
        image_BD, text_BD = torch.from_numpy(images[rows]), torch.from_numpy(texts[rows])
        value = (
            info_nce(image_BD, text_BD, scale, mask)
            if bias is None
            else sigmoid(image_BD, text_BD, scale, bias, mask)
        )
        total += value.item() * len(rows)
    return total / len(order)
