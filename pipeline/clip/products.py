"""Products of vectors whose last digits don't depend on how many processors there are.

NumPy's BLAS splits a product by the threads that it finds, and another split rounds otherwise;
torch keeps to the number of threads that `cpu_threads` sets.

Shapes: N and M vectors, D width.
"""

from typing import Any, TypeVar

import numpy as np
import torch

Floats = TypeVar("Floats", bound=np.ndarray[Any, Any])


def products(ones: Floats, others: Floats) -> Floats:
    """The product of each of N vectors with each of M: N×D, M×D → N×M, in their dtype."""
    found: Any = (_tensor(ones) @ _tensor(others).T).numpy()
    return found  # type: ignore[no-any-return]


def covariance(vectors: Floats) -> Floats:
    """Of N vectors, N×D: D×D, as `numpy.cov(vectors.T)` defines it."""
    found: Any = torch.cov(_tensor(vectors).T).numpy()
    return found  # type: ignore[no-any-return]


def solve(matrix: Floats, right: Floats) -> Floats:
    """The D×D system's solution for a right side of D."""
    found: Any = torch.linalg.solve(_tensor(matrix), _tensor(right)).numpy()
    return found  # type: ignore[no-any-return]


def _tensor(values: Floats) -> torch.Tensor:
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))
