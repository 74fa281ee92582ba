"""Which pair is seen when: a function of (seed, epoch) alone, never of workers or speed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import TrainingError

Rows = np.ndarray[Any, np.dtype[np.int64]]


def rows_by_image(pairs: pd.DataFrame) -> list[Rows]:
    """For each image, in order of id, the positions of its pairs."""
    positions = pairs.groupby("image_id", sort=True).indices
    return [np.sort(rows) for rows in positions.values()]


def epoch(images: list[Rows], *, batch_size: int, seed: int, number: int) -> Iterator[Rows]:
    """Batches of row positions: every image once, in a new order, with one of its captions.

    The last, smaller batch is left out: the loss depends on the number of negatives. Another epoch
    leaves out other images.
    """
    random = np.random.default_rng([seed, number])
    order = random.permutation(len(images))
    draws = random.random(len(images))
    rows = np.array([images[i][int(draws[i] * len(images[i]))] for i in order], dtype=np.int64)
    for start in range(0, len(rows) - batch_size + 1, batch_size):
        yield rows[start : start + batch_size]


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches of an epoch; none is a TrainingError."""
    if images < batch_size:
        raise TrainingError(
            f"the training split has {images} images, fewer than finetune.batch_size {batch_size}: "
            f"no step could be taken; set finetune.batch_size to {max(images // 2, 2)} or add data"
        )
    return images // batch_size


def codes(values: pd.Series) -> Rows:
    """A number for each distinct value: N values → N codes."""
    found: Rows = pd.factorize(values, sort=True)[0].astype(np.int64)
    return found
