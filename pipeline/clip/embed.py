"""Embeddings of images and texts: unit vectors, in the order asked for.

Shapes: N items, B a batch of them, D width of an embedding.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.clip.towers import read_lengths, shortened

Matrix = np.ndarray[Any, np.dtype[np.float32]]

SORTED = 64
"""Batches of texts among which those of like lengths are sought."""


def embed_images(
    clip: Clip,
    crops: Crops,
    image_ids: Sequence[str],
    *,
    batch_size: int,
    device: torch.device,
) -> Matrix:
    """Ids of N images → N×D fp32, each of unit length.

    Gradients are off by `no_grad`, not `inference_mode`: under the latter a CPU's autocast casts
    the weights anew for each batch.
    """
    model = clip.model.eval()
    parts = []
    with torch.no_grad(), _bar(len(image_ids), "images") as bar:
        for start in range(0, len(image_ids), batch_size):
            crops.expect(image_ids[start : start + 2 * batch_size])
            part = image_ids[start : start + batch_size]
            pixels = clip.pixels(crops.batch(part).to(device))
            parts.append(_unit(model.encode_image(pixels)))  # type: ignore[operator]
            bar.update(len(part))
    crops.expect(())
    return _join(parts)


def embed_texts(
    clip: Clip, texts: Sequence[str], *, batch_size: int, device: torch.device
) -> Matrix:
    """N texts → N×D fp32, each of unit length.

    Texts of like lengths share a batch, and the tower reads no further than the longest of them.
    """
    model = clip.model.eval()
    rows, parts = [], []
    with torch.no_grad(), _bar(len(texts), "texts") as bar:
        for some, tokens in _alike(clip, texts, batch_size):
            tower = shortened(model, tokens.shape[1])
            parts.append(_unit(tower.encode_text(tokens.to(device))))  # type: ignore[operator]
            rows.append(some)
            bar.update(len(some))
    found = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
    found[torch.cat(rows).numpy()] = _join(parts)
    return found


def _alike(clip: Clip, texts: Sequence[str], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of up to `size` texts and their tokens, cut to what the tower reads of the longest."""
    for start in range(0, len(texts), size * SORTED):
        tokens = clip.tokenizer(list(texts[start : start + size * SORTED]))
        lengths = read_lengths(clip.model, tokens)
        for rows in torch.split(torch.argsort(lengths, stable=True), size):
            yield rows + start, tokens[rows, : int(lengths[rows].max())]


def truncated(clip: Clip, texts: Sequence[str], *, batch_size: int) -> int:
    """How many of the texts lose tokens to the model's context length.

    Tokenizers cut in silence. With room for one token more, only a text that was cut differs in the
    first L places: where its end-of-text token stood, a token of the text stands.
    """
    cut = 0
    for start in range(0, len(texts), batch_size):
        part = list(texts[start : start + batch_size])
        tokens = clip.tokenizer(part)
        length = tokens.shape[1]
        roomier = clip.tokenizer(part, context_length=length + 1)[:, :length]
        cut += int((tokens != roomier).any(dim=1).sum())
    return cut


def _bar(total: int, unit: str) -> "tqdm[NoReturn]":
    return tqdm(total=total, desc="embed", unit=f" {unit}", leave=False, delay=2, disable=None)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1).cpu()


def _join(parts: list[Tensor]) -> Matrix:
    joined: Matrix = torch.cat(parts).numpy()
    return joined
