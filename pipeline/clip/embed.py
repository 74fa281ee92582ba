"""Embeddings of images and texts: unit vectors, in the order asked for.

Shapes: N items, B a batch of them, D width of an embedding.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops

Matrix = np.ndarray[Any, np.dtype[np.float32]]


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
    with torch.no_grad():
        for number, part in enumerate(_batches(image_ids, batch_size, "images")):
            crops.expect(image_ids[number * batch_size : (number + 2) * batch_size])
            pixels = clip.pixels(crops.batch(part).to(device))
            parts.append(_unit(model.encode_image(pixels)))  # type: ignore[operator]
    crops.expect(())
    return _join(parts)


def embed_texts(
    clip: Clip, texts: Sequence[str], *, batch_size: int, device: torch.device
) -> Matrix:
    """N texts → N×D fp32, each of unit length."""
    model = clip.model.eval()
    parts = []
    with torch.no_grad():
        for part in _batches(texts, batch_size, "texts"):
            tokens = clip.tokenizer(list(part)).to(device)
            parts.append(_unit(model.encode_text(tokens)))  # type: ignore[operator]
    return _join(parts)


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


def _batches(items: Sequence[str], size: int, unit: str) -> Iterator[Sequence[str]]:
    starts = range(0, len(items), size)
    with tqdm(
        total=len(items), desc="embed", unit=f" {unit}", leave=False, delay=2, disable=None
    ) as bar:
        for start in starts:
            part = items[start : start + size]
            yield part
            bar.update(len(part))


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1).cpu()


def _join(parts: list[Tensor]) -> Matrix:
    joined: Matrix = torch.cat(parts).numpy()
    return joined
