"""How many items a tower embeds at once where a batch_size is auto.

Needs no torch, so that the doctor can ask it too.
"""

from typing import NamedTuple


class Batch(NamedTuple):
    """Items of a batch. More than make a tower fast only fill up batches that are not full."""

    images: int
    texts: int


GPU = Batch(256, 256)
CPU = Batch(16, 32)
"""A picture has some 50 tokens in a ViT-B-32, a caption 15."""

CPU_SMALL = Batch(64, 64)
"""Of a small model an item costs less than starting its operations."""

SMALL = 25_000_000
"""Parameters below which a model is small."""


def batch_of(*, device: str, parameters: int) -> Batch:
    """The batch of a model with so many parameters on a device of this type (cpu, cuda)."""
    if device != "cpu":
        return GPU
    return CPU_SMALL if parameters < SMALL else CPU
