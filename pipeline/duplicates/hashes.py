"""64-bit perceptual hashes of a picture and of its crops.

The hash is the DCT kind (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010): the signs of low-frequency coefficients, here 48 of the luma and 8 of each colour
difference, so that pictures of one pattern and two colours differ. Signs do not change with
brightness. What a crop does change they follow here, as the hash is computed for 81 crops of the
picture as well: 0, 2.5 or 5 % off each side. A copy's own hash is then near the hash of one of its
original's crops; of 100 bits 1 or 2 differ for crops in between.

A coefficient counts as positive above a small level, not 0, so that pictures without structure have
one hash instead of the signs of their noise. All sums are of integers below 2⁵³ in float64, hence
exact: the same hash on every machine.

Legend: N pictures, V = 81 views (crops), K frequencies along an axis, C crops along an axis.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.duplicates.planes import Signatures, planes

Hashes = NDArray[np.uint64]

CUT = (0.0, 0.025, 0.05)
"""Shares that a view cuts off a side. The first is none, so view 0 is the whole picture."""
VIEWS = len(CUT) ** 4
FREQUENCIES = 8
LUMA_LEVEL, COLOUR_LEVEL = 0.1, 0.3
"""Grey levels that a coefficient exceeds to count as positive; the colours of grey are coarser."""
UNIT = 1 << 20
"""Integers that stand for 1 in the cosine tables."""

LUMA = sorted(
    ((y, x) for y in range(FREQUENCIES) for x in range(FREQUENCIES) if y + x),
    key=lambda at: (at[0] ** 2 + at[1] ** 2, at),
)[:48]
COLOUR = [(0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1), (2, 2), (0, 4)]
ORDER = [bit for first in range(3) for bit in range(first, 64, 3)]
"""Every third of the bits after another: each third of a hash then knows all of the picture."""


def hashes(signatures: Signatures, *, views: bool) -> Hashes:
    """(N, V) hashes of each picture's views, or of the whole picture alone: (N, 1)."""
    luma, blue, red = planes(signatures)
    cut = CUT if views else CUT[:1]
    bits = [
        _positive(luma, LUMA, cut, level=LUMA_LEVEL),
        _positive(blue, COLOUR, cut, level=COLOUR_LEVEL, zero=128),
        _positive(red, COLOUR, cut, level=COLOUR_LEVEL, zero=128),
    ]
    in_order = np.concatenate(bits, axis=-1)[:, :, ORDER]
    packed = np.ascontiguousarray(np.packbits(in_order, axis=-1, bitorder="little"))
    return packed.view("<u8")[:, :, 0].astype(np.uint64, copy=False)


def _positive(
    plane: NDArray[np.uint8],
    frequencies: Sequence[tuple[int, int]],
    cut: Sequence[float],
    *,
    level: float,
    zero: int = 0,
) -> NDArray[np.bool_]:
    """(N, V, frequencies): whether each coefficient of each view exceeds the level."""
    count, side, _ = plane.shape
    tables = [_cosines(side, left, right) for left in cut for right in cut]
    flat = np.concatenate(tables)
    centred = plane.astype(np.float64) - zero
    rows = (centred.reshape(-1, side) @ flat.T).reshape(count, side, -1)
    both = flat @ rows
    crops = len(tables)
    coefficients = both.reshape(count, crops, FREQUENCIES, crops, FREQUENCIES)
    positive = coefficients > level * UNIT * UNIT
    by_view = positive.transpose(0, 1, 3, 2, 4).reshape(count, crops * crops, -1)
    return by_view[:, :, [y * FREQUENCIES + x for y, x in frequencies]]


def _cosines(side: int, left: float, right: float) -> NDArray[np.float64]:
    """(K, side) weights in whole numbers of a cosine over what is left of a cut axis.

    A pixel that the cut goes through counts in part. The weights of an axis sum to `UNIT` at
    frequency 0, so that a coefficient is a mean.
    """
    edges = np.arange(side + 1) / side
    low, high = (np.clip(part, left, 1 - right) for part in (edges[:-1], edges[1:]))
    width = 1 - left - right
    centre = ((low + high) / 2 - left) / width
    waves = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * centre)
    return np.rint(UNIT * waves * (high - low) / width)
