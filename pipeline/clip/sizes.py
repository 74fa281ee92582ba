"""How many items a tower embeds at once where `embed.batch_size` is auto.

Needs no torch, so that the doctor can ask it too.
"""

GPU = 256
CPU = 16
"""The largest tensors of a ViT-B-32 stay small enough for the C library to keep their memory; at 32
it goes back to the system, and comes anew page by page, for each layer. Half as much is computed to
fill up batches that are not full."""

CPU_SMALL = 64
"""Of a small model an item costs less than starting its operations."""

SMALL = 25_000_000
"""Parameters below which a model is small."""


def batch_size(*, device: str, parameters: int) -> int:
    """The batch of a model with so many parameters on a device of this type (cpu, cuda)."""
    if device != "cpu":
        return GPU
    return CPU_SMALL if parameters < SMALL else CPU
