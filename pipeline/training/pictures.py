"""The pictures of a training: made ahead, varied by epoch, and how long the loop waited for them.

Shapes: B rows of a batch, H×W a crop.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.clip.pixels import Crops
from pipeline.sections import AugmentParams
from pipeline.training.augment import augmented
from pipeline.training.batches import Rows

TOO_LONG = 0.1
"""The share of an epoch above which waiting is worth a line."""


class Pictures:
    """What the model sees of each row: a function of (seed, epoch, image) alone.

    Attributes:
        wait_s: seconds of the present or last epoch in which the loop waited for pictures.
        step_s: all other seconds of it.
    """

    def __init__(
        self,
        crops: Crops,
        image_ids: Any,
        augment: AugmentParams | None,
        *,
        seed: int,
        ahead: bool = True,
    ) -> None:
        """`image_ids` is an array: the image of each row. Not `ahead`: nobody will ask for any."""
        self._crops, self._ids = crops, image_ids
        self._augment, self._seed, self._number = augment, seed, 0
        self._decoded, self._ahead = 0, ahead
        self.wait_s, self.step_s = 0.0, 0.0

    def epoch(
        self, order: Iterable[Rows], *, number: int, part: int = 0, of: int = 1
    ) -> Iterator[Rows]:
        """The batches of an epoch, as they are; the next one's pictures are made meanwhile.

        Of each batch, only those of this process, `part` `of` so many, are made. At the end, a line
        is printed if the loop waited for long.
        """
        self._number = number
        if not self._ahead:
            yield from order
            return
        began, waited, decoded = time.perf_counter(), self._crops.waited_s, self._crops.decoded
        ahead = iter(order)
        now = next(ahead, None)
        try:
            while now is not None:
                following = next(ahead, None)
                near = [rows for rows in (now, following) if rows is not None]
                mine = [np.array_split(rows, of)[part] for rows in near]
                self._crops.expect(self._ids[np.concatenate(mine)])
                yield now
                now = following
        finally:
            self._crops.expect(())
            self._crops.flush()
            self.wait_s = self._crops.waited_s - waited
            self.step_s = time.perf_counter() - began - self.wait_s
            self._decoded = self._crops.decoded - decoded
        if part == 0 and self.bottleneck is not None:
            tqdm.write(self.bottleneck)

    def batch(self, rows: Rows, device: torch.device) -> Tensor:
        """The pictures of B rows in the present epoch: B×H×W×3 uint8, on `device`."""
        ids = list(self._ids[rows])
        crops = self._crops.batch(ids).to(device)
        return augmented(crops, ids, self._augment, seed=self._seed, epoch=self._number)

    @property
    def wait_share(self) -> float:
        """The share of the last epoch in which the loop waited for pictures."""
        return self.wait_s / max(self.wait_s + self.step_s, 1e-9)

    @property
    def bottleneck(self) -> str | None:
        """What to tell of the last epoch, and what to do; None where it did not wait for long."""
        if self.wait_share <= TOO_LONG:
            return None
        return (
            f"data is the bottleneck: {self.wait_share:.0%} of epoch {self._number} went by in "
            f"waiting for pictures, {self._decoded:,} of which were decoded: more cores or smaller "
            "files help, or free memory and disk, where crops are kept for the next epoch"
        )
