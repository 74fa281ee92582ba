import numpy as np
import pytest
import torch

from pipeline.evaluation.exact import Grid, finite, products


def unit(count: int, width: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_no_order_of_the_addends_changes_a_product() -> None:
    ones, others = Grid(unit(40, 512, 0))[:], Grid(unit(50, 512, 1))[:]
    order = torch.from_numpy(np.random.default_rng(2).permutation(512))
    whole = ones @ others.T
    assert torch.equal(whole, ones[:, order] @ others[:, order].T)
    assert torch.equal(whole, torch.stack([(row * others).sum(1) for row in ones]))
    assert torch.equal(whole, torch.cat([ones @ row[:, None] for row in others], dim=1))


def test_products_are_as_near_as_those_in_fp32() -> None:
    ones, others = unit(40, 512, 0), unit(50, 512, 1)
    found = np.concatenate(list(products(ones, others)))
    true = ones.astype(np.float64) @ others.astype(np.float64).T
    assert np.abs(found - true).max() < np.abs(ones @ others.T - true).max()


def test_vectors_of_any_length_are_scaled_together() -> None:
    vectors = unit(5, 8, 0)
    assert Grid(vectors).scale == 1
    assert Grid(vectors * 1000).scale == 2**-10
    assert np.allclose(next(products(vectors * 1000, vectors * 3)), 3000 * vectors @ vectors.T)


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e30])
def test_what_no_product_can_be_made_of_is_not_finite(broken: float) -> None:
    vectors = unit(5, 8, 0)
    assert finite(vectors)
    vectors[3, 2] = broken
    assert not finite(vectors)
