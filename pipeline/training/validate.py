"""Loss and retrieval on the validation split, in its own fixed order.

Shapes: N images, M texts, D width of an embedding.
"""

from collections.abc import Callable, Mapping
from functools import partial

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
from pipeline.training import batches, compiling, together
from pipeline.training.auto import Settled
from pipeline.training.distributed import ALONE, World, gather
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
    world: World = ALONE,
) -> dict[str, float]:
    """Loss on each image with its first caption, retrieval on all captions, and the scale.

    With a pull toward the base, also how far embeddings are from the base's; the loss is without.
    Several processes share out the towers' work; what process 0 makes of it holds in all of them.
    """
    owner, ids = pd.factorize(val["image_id"], sort=True)
    size = params.batch_size
    captions = list(val["caption"])
    clip.model.eval()
    # What is told of a model is told of its weights as they are, whatever it trains in.
    with devices.autocast(device, "fp32"), compiling.plain(wanted=params.compile):
        images = _of_all(
            partial(embed_images, clip, crops, batch_size=size, device=device)
            if known.images is None
            else known.images.all,
            list(ids), world, device,
        )  # fmt: skip
        texts = _of_all(
            partial(embed_texts, clip, batch_size=size, device=device)
            if known.texts is None
            else known.texts.all,
            captions, world, device,
        )  # fmt: skip
    if world.rank > 0:
        found: dict[str, float] = together.told(None, world, device)
        return found
    first = np.unique(owner, return_index=True)[1]
    scale = clip.model.logit_scale.detach().exp().cpu()  # type: ignore[operator]
    bias = clip.model.logit_bias.detach().cpu() if loss == "sigmoid" else None  # type: ignore[operator]
    keys = batches.codes(val["caption"].map(caption_key))[first]
    moved = {}
    if known.pull is not None:
        far = known.pull.moved(images, texts, image_ids=list(ids), captions=captions)
        moved = {"val_from_base": far}
    found = {
        "val_loss": _loss_in_blocks(images, texts[first], scale, bias, keys, size=size),
        "logit_scale": scale.item(),
        **{f"val_{name}": value for name, value in recalls(images, texts, owner).items()},
        **moved,
    }
    together.told(found, world, device)
    return found


def _of_all(
    embed: Callable[[list[str]], Matrix], items: list[str], world: World, device: torch.device
) -> Matrix:
    """N items → N×D, of which each process embeds a part; too few to share out, each does all."""
    if world.size == 1 or len(items) < world.size:
        return embed(items)
    own = np.array_split(np.arange(len(items)), world.size)[world.rank]
    mine = torch.from_numpy(embed(items[own[0] : own[-1] + 1]))
    joined: Matrix = gather(mine.to(device), world).cpu().numpy()
    return joined


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
