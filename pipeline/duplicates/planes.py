"""Signatures as arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.signatures import COLOUR_SIDE, SIDE, SIZE

Signatures = NDArray[np.uint8]
"""(N, SIZE): a signature a row."""


def stack(signatures: Sequence[bytes]) -> Signatures:
    """Signatures as rows of one array; ValueError names the first of another length."""
    for row, one in enumerate(signatures):
        if len(one) != SIZE:
            raise ValueError(f"signature {row} has {len(one)} bytes, not {SIZE}: made by another")
    return np.frombuffer(b"".join(signatures), np.uint8).reshape(len(signatures), SIZE)


def planes(
    signatures: Signatures,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Luma (N, SIDE, SIDE), blue and red difference (N, COLOUR_SIDE, COLOUR_SIDE); views."""
    count, luma = len(signatures), SIDE * SIDE
    blue, red = np.split(signatures[:, luma:], 2, axis=1)
    shape = (count, COLOUR_SIDE, COLOUR_SIDE)
    return (
        signatures[:, :luma].reshape(count, SIDE, SIDE),
        blue.reshape(shape),
        red.reshape(shape),
    )
