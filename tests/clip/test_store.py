from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.artifacts import sha256_of
from pipeline.clip import store


def vectors(count: int) -> store.Matrix:
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


def test_the_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    ids = [f"{i * 7919 % 100:03}" for i in range(100)]
    matrix = vectors(100)
    order = np.random.default_rng(1).permutation(100)
    for name, rows in (("a", np.arange(100)), ("b", order)):
        (tmp_path / name).mkdir()
        store.write(tmp_path / name, "x", [ids[i] for i in rows], matrix[rows], dtype="fp32")
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")
    read = store.read(tmp_path / "a", "x")
    assert np.array_equal(read.take(ids), matrix)
    assert np.array_equal(read.take([ids[5], ids[2], ids[5]]), matrix[[5, 2, 5]])


def test_fp16_is_half_as_large_and_near(tmp_path: Path) -> None:
    matrix = vectors(100)
    store.write(tmp_path, "x", [f"{i:03}" for i in range(100)], matrix, dtype="fp16")
    plain = np.load(tmp_path / "x.npy")
    assert plain.dtype == np.float16
    assert np.abs(plain.astype(np.float32) - matrix).max() < 2e-3
    assert pq.read_table(tmp_path / "x.parquet")["id"][3].as_py() == "003"


def test_an_unknown_id_is_named(tmp_path: Path) -> None:
    store.write(tmp_path, "x", ["a", "b"], vectors(2), dtype="fp32")
    with pytest.raises(KeyError, match="zz"):
        store.read(tmp_path, "x").take(["a", "zz"])
