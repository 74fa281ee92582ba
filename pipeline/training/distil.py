"""A pull of embeddings toward those of the base model, against forgetting (`finetune.distil`).

LDIFS (Mukhoti et al. 2023, arXiv:2308.13320) adds the squared distance of features to the base's on
the training data itself; so do Shaked et al. 2024 (arXiv:2409.07582) with embeddings alone. Those
are what zero-shot and search stand on, and the only features that are known without a second model
in memory: the base's are computed once, so that an epoch costs what it costs without. Weights may
go where they like, which `toward_base` does not let them.

The target is the base's embedding of the picture as it is, though the model sees it varied. A
teacher should see what its student sees where pictures are varied much (Beyer et al. 2022,
arXiv:2106.05237); `augment` varies them less than pictures of one thing differ, and is to change
nothing.

Shapes: B rows of a batch, N images, M texts, D width of an embedding.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.clip.embed import Matrix
from pipeline.training.distributed import World, mean

Target = Callable[[Sequence[str]], Tensor]
"""Items → the base's embeddings of them, of unit length, on the device that trains."""


class Pull(NamedTuple):
    """How strong it is, and the base's embeddings; None for a tower that does not move."""

    strength: float
    images: Target | None
    texts: Target | None

    def share(
        self,
        image_BD: Tensor,
        text_BD: Tensor,
        *,
        image_ids: Sequence[str],
        captions: Sequence[str],
        world: World,
    ) -> Tensor:
        """This process's part: the mean over processes is that of all rows, times the strength.

        A row's is the squared distance of its image to the base's, 2 · (1 − cosine), and that of
        its text. All processes have to call it together.
        """
        apart_B = _apart(self.images, image_BD, image_ids) + _apart(self.texts, text_BD, captions)
        # Processes may have different numbers of rows.
        rows = mean(apart_B.new_tensor(float(len(image_BD))), world)
        return self.strength * apart_B.sum() / rows

    @torch.no_grad()
    def moved(
        self,
        image_ND: Matrix,
        text_MD: Matrix,
        *,
        image_ids: Sequence[str],
        captions: Sequence[str],
    ) -> float:
        """How far embeddings are from the base's: the mean over images, and that over texts."""
        images = _apart(self.images, torch.from_numpy(image_ND), image_ids)
        texts = _apart(self.texts, torch.from_numpy(text_MD), captions)
        return (images.mean() + texts.mean()).item()


def _apart(target: Target | None, found_BD: Tensor, items: Sequence[str]) -> Tensor:
    """Squared distance of each of B embeddings to its target; 0 where there is none."""
    if target is None:
        return found_BD.new_zeros(len(found_BD))
    with torch.no_grad():
        wanted_BD = target(items).to(found_BD)
    return (found_BD - wanted_BD).square().sum(dim=1)
