"""Products of vectors without rounding: the same whatever the blocks, the threads, the device.

A rank hangs on which of two scores is larger, and two equal vectors must score the same. Vectors
are put on a grid so fine that it rounds less than a product in fp32 does, and so coarse that each
sum of a product is a float64: then no order of its addends can change it.

Shapes: N vectors, R rows asked for, D width.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

CPU = torch.device("cpu")
STEPS = 2.0**26
"""Of the grid, in a unit. A product is then a multiple of 2⁻⁵², and exact below 2."""
LONGEST = 1.4
"""A vector's length at most, after scaling: its product with another is below 2, and so is each
partial sum."""

BLOCK = 2**21
"""Products in memory at once, at most."""
ROWS = 4096
"""Vectors on the grid at once, at most."""


def finite(vectors: Matrix) -> bool:
    """Whether all is a number in N×D that a product can be made of."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float32)
    return bool(np.isfinite(squares).all())


class Grid:
    """N vectors N×D, of which rows are put on the grid as they are asked for.

    All are scaled by the same power of 2, which changes no rank; vectors of unit length by 1.

    Attributes:
        scale: that power.
    """

    def __init__(self, vectors: Matrix, *, device: torch.device = CPU) -> None:
        """Nothing is copied. The vectors are `finite`."""
        squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float32)
        longest = math.sqrt(squares.max(initial=0.0))
        self.scale = 2.0 ** -math.frexp(longest / LONGEST)[1]
        self._vectors, self._device = vectors, device

    def __len__(self) -> int:
        """How many vectors there are."""
        return len(self._vectors)

    def __getitem__(self, rows: slice | Integers) -> Tensor:
        """R rows, R×D float64."""
        part = torch.from_numpy(np.array(self._vectors[rows], dtype=np.float64)).to(self._device)
        return part.mul_(STEPS * self.scale).round_().div_(STEPS)


def products(ones: Matrix, others: Matrix, *, device: torch.device = CPU) -> Iterator[Floats]:
    """Products of N×D with M×D, in blocks of rows of N: float64, together N×M."""
    ones_grid, others_grid = Grid(ones, device=device), Grid(others, device=device)
    others_MD = others_grid[:]
    unscaled = 1 / (ones_grid.scale * others_grid.scale)
    step = min(ROWS, max(1, BLOCK // max(len(others), 1)))
    for start in range(0, len(ones), step):
        yield (ones_grid[start : start + step] @ others_MD.T).mul_(unscaled).cpu().numpy()
