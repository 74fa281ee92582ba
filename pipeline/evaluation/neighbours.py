"""What the nearest known vectors say of one: a classifier that learns nothing.

Shapes: N vectors asked about, M known ones, C classes, K neighbours, D width.
"""

import numpy as np
import torch

from pipeline.evaluation.exact import CPU, Integers, Matrix
from pipeline.evaluation.top import top

TEMPERATURE = 0.07
"""That of Wu et al. and of DINO."""


def answers(
    vectors: Matrix,
    known: Matrix,
    actual: Integers,
    *,
    k: int,
    classes: int,
    device: torch.device = CPU,
) -> Integers:
    """The class that the k nearest of M known vectors vote for, of each of N vectors: N.

    A neighbour of cosine c has exp(c / 0.07) votes (Wu et al. 2018, arXiv:1805.01978, §3.4; with
    k = 20, Caron et al. 2021, DINO, arXiv:2104.14294). Of equally near ones those count that stand
    first in M, of equal votes the first class. Vectors N×D and M×D have unit length; `actual`, M,
    are classes; fewer than k known vectors all vote.
    """
    nearest_NK, cosines_NK = top(vectors, known, k, device=device)
    # All votes of a vector are scaled together, which no float overflows.
    votes_NK = np.exp((cosines_NK - cosines_NK[:, :1]) / TEMPERATURE)
    cells_NK = np.arange(len(vectors))[:, None] * classes + actual[nearest_NK]
    votes_N_C = np.bincount(cells_NK.ravel(), votes_NK.ravel(), minlength=len(vectors) * classes)
    found: Integers = votes_N_C.reshape(len(vectors), classes).argmax(axis=1)
    return found
