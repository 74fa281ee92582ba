"""The same digits on one processor as on two."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.clip.products import covariance, products, solve
from tests.drawing import ROOT

RANDOM = np.random.default_rng(0)
SHAPES = [(300, 64, 300), (1024, 64, 16384), (700, 512, 512)]


def computed() -> str:
    """A hash of products of several shapes and of a fit."""
    import torch

    torch.set_num_threads(2)
    digest = hashlib.sha256()
    for rows, width, others in SHAPES:
        random = np.random.default_rng(rows)
        one = random.standard_normal((rows, width)).astype(np.float32)
        two = random.standard_normal((others, width)).astype(np.float32)
        digest.update(products(one, two).tobytes())
    values = random.standard_normal((500, 64))
    digest.update(solve(covariance(values), values[0]).tobytes())
    return digest.hexdigest()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_one_processor_computes_what_two_do():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from tests.clip.test_products import computed; print(computed())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == computed()


def test_they_are_numpys_but_for_the_last_digits():
    values = RANDOM.standard_normal((50, 6))
    assert np.abs(products(values, values) - values @ values.T).max() < 1e-12
    assert np.abs(covariance(values) - np.cov(values.T)).max() < 1e-12
    matrix = covariance(values)
    assert np.abs(matrix @ solve(matrix, values[0]) - values[0]).max() < 1e-12


def test_a_read_only_mapping_is_no_obstacle():
    values = RANDOM.standard_normal((5, 6)).astype(np.float32)
    values.flags.writeable = False
    assert products(values, values[::2]).shape == (5, 3)
