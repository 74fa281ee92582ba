"""Towers whose output is known before training: a locked one's embeddings, or what a head reads.

A frozen tower at rest gives the same for an item in each epoch, so a step may look it up. Loss and
gradients are those of the forward pass; tests/training/test_known.py says so.

Shapes: B items of a batch, N items, F width of a tower's features, D width of an embedding.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.artifacts import sha256_text
from pipeline.clip import device as devices
from pipeline.clip import heads, once, work
from pipeline.clip.cache import EmbeddingCache, as_ids
from pipeline.clip.embed import Matrix
from pipeline.clip.model import Clip
from pipeline.data.places import Places
from pipeline.params import FinetuneParams
from pipeline.training import methods, together
from pipeline.training.distil import Pull, Target
from pipeline.training.distributed import ALONE, World
from pipeline.training.resting import pulled, resting

Project = Callable[[Tensor], Tensor] | None

BLOCK = 4096
"""Items at once where no gradient is asked for."""


class Table:
    """What a tower gives of each item, and the head that trains on it, if one does."""

    def __init__(
        self,
        vectors: EmbeddingCache,
        *,
        id_of: Callable[[str], str],
        project: Project,
        device: torch.device,
        precision: str,
    ) -> None:
        """Vectors by id: with `project` features N×F, without it embeddings N×D of unit length."""
        self._vectors, self._id_of, self._project = vectors, id_of, project
        self._device, self._precision = device, precision

    def of(self, items: Sequence[str]) -> Tensor:
        """Embeddings of B items, B×D of unit length, with a graph where a head trains."""
        ids = as_ids([self._id_of(item) for item in items])
        rows = torch.from_numpy(self._vectors.take(ids)).to(self._device)
        if self._project is None:
            return rows
        with devices.autocast(self._device, self._precision):
            return F.normalize(self._project(rows), dim=-1).float()

    @torch.no_grad()
    def all(self, items: Sequence[str]) -> Matrix:
        """Embeddings of N items, N×D of unit length."""
        parts = [self.of(items[i : i + BLOCK]).cpu() for i in range(0, len(items), BLOCK)]
        joined: Matrix = torch.cat(parts).numpy()
        return joined


class Known(NamedTuple):
    """The towers that need no forward pass; None: that one does. Texts go by their caption.

    Attributes:
        pull: toward what the base gives, for towers that move; None: they go where they like.
    """

    images: Table | None
    texts: Table | None
    pull: Pull | None = None


NOTHING = Known(None, None)


def known(
    clip: Clip,
    pairs: pd.DataFrame,
    places: Places,
    params: FinetuneParams,
    *,
    seed: int,
    device: torch.device,
    cpu_threads: int,
    cache: Path,
    world: World = ALONE,
) -> Known:
    """Compute what `params` let be known of `pairs`, unless `cache` holds it, and keep it there.

    With `method: head` both towers' features, with `lit` the embeddings of a tower locked whole,
    with `distil` the base's embeddings, toward which towers that move are pulled; else nothing.
    Call it while the model is as it was loaded: what `cache` holds goes by the hash of its files.
    Vectors are in training's own precision. In bf16 the weights themselves are, which rounds
    elsewhere than autocast does. Several processes share the work.

    Raises ConfigError and ModelError as `methods.prepared` does, before anything is computed, and
    DataError for images that can't be decoded.
    """
    towers, moving = resting(params), pulled(params)
    if not towers and not moving:
        return NOTHING
    head = params.method == "head"
    with methods.prepared(clip.model, params, seed=seed):
        pass
    precision = devices.training_precision(device, params.precision)
    way = once.ways(
        clip, features=head, precision=precision, device=device, cpu_threads=cpu_threads,
        cache=cache, share=work.Share(world.rank, world.size), meet=partial(together.meet, world),
    )  # fmt: skip

    clip.model.to(device)
    # The base's heads, before they train.
    starts = {
        tower: copy.deepcopy(heads.head_of(clip.model, tower).project) for tower in towers if head
    }

    def table(vectors: EmbeddingCache, id_of: Callable[[str], str], project: Project) -> Table:
        return Table(
            vectors, id_of=id_of, project=project, device=device, precision=params.precision
        )

    def tables(
        tower: str, id_of: Callable[[str], str], vectors: Callable[[], EmbeddingCache]
    ) -> tuple[Table | None, Target | None]:
        """What training looks up of a tower, and what its embeddings are pulled toward."""
        if tower not in towers | moving:
            return None, None
        found = vectors()
        project = heads.head_of(clip.model, tower).project if head else None
        seen = table(found, id_of, project) if tower in towers else None
        base = table(found, id_of, starts.get(tower)).of if tower in moving else None
        return seen, base

    images, base_images = tables("image", str, lambda: once.images(way, pairs["image_id"], places))
    texts, base_texts = tables("text", sha256_text, lambda: once.texts(way, pairs["caption"]))
    pull = Pull(params.distil, base_images, base_texts) if moving else None
    return Known(images, texts, pull)
