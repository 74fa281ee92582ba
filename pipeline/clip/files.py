"""Embeddings of picture files that no stage has validated.

Shapes: N pictures, B a batch of them, H×W a crop, D width of an embedding.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.clip import device as devices
from pipeline.clip.embed import Matrix
from pipeline.clip.model import Clip
from pipeline.clip.towers import Towers
from pipeline.data.pictures import Unread, read_picture

BATCH = 32
"""Pictures at once, and as many again that are decoded meanwhile."""


class Embedded(NamedTuple):
    """Pictures by their names, and their vectors, N×D of unit length."""

    names: list[str]
    vectors: Matrix


def embed_files(
    clip: Clip,
    files: Mapping[str, Path],
    *,
    max_pixels: int,
    device: torch.device,
    unread: Callable[[Unread], object],
) -> Embedded:
    """Embed each file in fp32; `unread` is told of one that gives no picture, which is left out."""
    towers = Towers(clip, device=device, precision="fp32")
    names: list[str] = []
    parts: list[Matrix] = []
    with tqdm(
        total=len(files), desc="embed", unit=" images", leave=False, delay=2, disable=None
    ) as bar:
        for made in _batches(clip, files, max_pixels):
            crops = {name: crop for name, crop in made.items() if isinstance(crop, Tensor)}
            for name, why in made.items():
                if isinstance(why, str):
                    unread(Unread(name, why))
            if crops:
                names += crops
                parts.append(towers.images(torch.stack(list(crops.values()))).cpu().numpy())
            bar.update(len(made))
    return Embedded(names, np.concatenate(parts) if parts else np.empty((0, 0), np.float32))


def _batches(
    clip: Clip, files: Mapping[str, Path], max_pixels: int
) -> Iterator[dict[str, Tensor | str]]:
    """Of each batch the crops H×W×3 uint8 by name, or why there is none; one batch ahead."""

    def make(path: Path) -> Tensor | str:
        try:
            with read_picture(path, max_pixels=max_pixels) as picture:
                return torch.from_numpy(clip.crop(picture).copy())
        except OSError as error:
            return str(error)

    rest = iter(files.items())
    with ThreadPoolExecutor(min(8, devices.cores())) as pool:

        def begin() -> dict[str, Future[Tensor | str]]:
            return {name: pool.submit(make, path) for name, path in islice(rest, BATCH)}

        coming = begin()
        while coming:
            following = begin()
            yield {name: future.result() for name, future in coming.items()}
            coming = following
