"""What a frozen tower gives of each item, computed once and kept in the embed stage's own cache.

Embeddings have the key that the stage gives them, so what it computed with `embed.exact` and in the
same precision is there already; features, before a tower's head, have one of their own.

Shapes: B items of a batch, H×W a crop, L tokens, F width of a tower's features.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts import sha256_of, sha256_text
from pipeline.clip import device as devices
from pipeline.clip import fill, heads, sizes, work
from pipeline.clip.cache import EmbeddingCache, as_ids
from pipeline.clip.model import Clip
from pipeline.clip.progress import Progress
from pipeline.clip.towers import Precision, Towers, batch_for
from pipeline.data.places import Places
from pipeline.errors import DataError


class Features(Towers):
    """Towers that end before their heads: features B×F as they are, of no unit length."""

    def __init__(self, clip: Clip, *, device: torch.device, precision: Precision) -> None:
        """Of `clip` without its heads; ModelError where a tower has none."""
        cut = dataclasses.replace(clip, model=heads.without(clip.model))
        super().__init__(cut, device=device, precision=precision)

    @torch.no_grad()
    def images(self, crops: Tensor) -> Tensor:
        """Crops B×H×W×3 uint8 → B×F fp32, on the device."""
        pixels = self._clip.pixels(crops.to(self.device, non_blocking=True)).to(self._dtype)
        found: Tensor = self._model.encode_image(pixels, normalize=False)  # type: ignore[operator]
        return found.float()

    @torch.no_grad()
    def texts(self, tokens: Tensor) -> Tensor:
        """Tokens B×L, cut to what `read_length` says → B×F fp32, on the device."""
        tower = self._of_length(tokens.shape[1])
        found: Tensor = tower.encode_text(tokens.to(self.device), normalize=False)  # type: ignore[operator]
        return found.float()


class Ways(NamedTuple):
    """How vectors are computed and where they are kept.

    Attributes:
        towers: `Towers` for embeddings, `Features` for features.
        key: all that moves a bit of a text's vector, but for the size of its batch.
        cache: the folder of the embed stage's caches.
        share: what this process computes of what is lacking; the others compute the rest.
        meet: waits for them.
    """

    clip: Clip
    towers: Towers
    key: Mapping[str, Any]
    batch: sizes.Batch
    cache: Path
    share: work.Share
    meet: Callable[[], None]


def ways(
    clip: Clip,
    *,
    features: bool,
    precision: Precision,
    device: torch.device,
    cpu_threads: int,
    cache: Path,
    share: work.Share,
    meet: Callable[[], None],
) -> Ways:
    """The embed stage's own way, with OpenCLIP's pixels; `features`: up to the heads alone.

    The model moves to `device`. Raises ModelError where a tower has no head to stop at.
    """
    batch = batch_for(clip, "auto", device=device)
    key = work.made(clip, device=device, cpu_threads=cpu_threads, precision=precision)
    if not features:
        towers = Towers(clip, device=device, precision=precision)
        return Ways(clip, towers, key, batch, cache, share, meet)
    here = Path(__file__).parent
    code = sha256_text("\n".join(sha256_of(here / name) for name in ("heads.py", "once.py")))
    towers = Features(clip, device=device, precision=precision)
    return Ways(clip, towers, key | {"features": code}, batch, cache, share, meet)


def images(way: Ways, image_ids: Iterable[str], places: Places) -> EmbeddingCache:
    """Vectors of each of these images, by id; DataError where one can't be decoded."""
    looks = work.seen(way.clip, exact=True, decoder="cpu", compiled=False)
    key = dict(way.key) | looks | {"batch_size": way.batch.images}
    known = EmbeddingCache(way.cache / "images", key)
    pixels = work.exact_pixels(way.clip, places)

    def compute(lacking: list[str], progress: Progress) -> None:
        failed = fill.fill_images(
            known, lacking, way.towers, decode=pixels.decode, join=pixels.join,
            batch_size=way.batch.images, threads=devices.cores(), progress=progress,
        )  # fmt: skip
        if failed:
            raise DataError(work.told(failed, places, way.cache / work.FAILED_FILE))

    return _completed(known, sorted(set(image_ids)), "images", compute, way)


def texts(way: Ways, captions: Iterable[str]) -> EmbeddingCache:
    """Vectors of each of these captions, by its SHA-256."""
    by_id = {sha256_text(caption): caption for caption in captions}
    key = dict(way.key) | {"batch_size": way.batch.texts}
    known = EmbeddingCache(way.cache / "texts", key)

    def compute(lacking: list[str], progress: Progress) -> None:
        fill.fill_texts(
            known, {text_id: by_id[text_id] for text_id in lacking}, way.towers,
            tokenize=way.clip.tokenizer, batch_size=way.batch.texts, progress=progress,
        )  # fmt: skip

    return _completed(known, sorted(by_id), "texts", compute, way)


def _completed(
    known: EmbeddingCache,
    ids: list[str],
    unit: str,
    compute: Callable[[list[str], Progress], None],
    way: Ways,
) -> EmbeddingCache:
    if way.share.of > 1:
        _complete(known, ids[way.share.number :: way.share.of], unit, compute)
        way.meet()
        known.refresh()
        if not known.lacks(as_ids(ids)).any():
            return known
    # Of several, those whose cache is a folder that the others don't see.
    _complete(known, ids, unit, compute)
    return known


def _complete(
    known: EmbeddingCache,
    ids: list[str],
    unit: str,
    compute: Callable[[list[str], Progress], None],
) -> None:
    lacking = np.asarray(ids)[known.lacks(as_ids(ids))].tolist()
    there = len(ids) - len(lacking)
    with Progress(unit, total=len(ids), known=there, damaged=known.corrupt) as progress:
        compute(lacking, progress)
    known.refresh()
