"""Embeddings on disk, as this project and as plain pyarrow and numpy read them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.artifacts import sha256_of, sha256_text
from pipeline.clip import store
from pipeline.clip.cache import as_ids

IDS = [sha256_text(str(i)) for i in range(100)]
VECTORS = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)


def written(folder: Path, order=range(100), dtype="fp32", name="x"):
    folder.mkdir(exist_ok=True)
    of = dict(zip(IDS, VECTORS, strict=True))
    ids = as_ids([IDS[i] for i in order])
    store.write(
        folder, name, ids, lambda some: np.stack([of[i.decode()] for i in some]), dtype=dtype
    )
    return store.read(folder, name)


def test_the_order_of_writing_does_not_matter(tmp_path: Path):
    written(tmp_path / "a")
    written(tmp_path / "b", np.random.default_rng(1).permutation(100))
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")


@pytest.mark.parametrize(("shard", "block"), [(1 << 18, 1 << 14), (30, 7), (33, 100)])
def test_vectors_come_back_by_id_across_shards(tmp_path: Path, monkeypatch, shard, block):
    monkeypatch.setattr(store, "SHARD", shard)
    monkeypatch.setattr(store, "BLOCK", block)
    found = written(tmp_path)
    assert np.array_equal(found.take(IDS), VECTORS)
    assert np.array_equal(found.take([IDS[5], IDS[2], IDS[5]]), VECTORS[[5, 2, 5]])
    order = np.argsort(IDS)
    assert np.array_equal(np.concatenate([part for _, part in found.blocks(11)]), VECTORS[order])


def test_fp16_is_half_as_large_and_near_and_plainly_readable(tmp_path: Path):
    written(tmp_path, dtype="fp16")
    plain = np.load(tmp_path / "x-00000.npy")
    order = np.argsort(IDS)
    assert plain.dtype == np.float16
    assert np.abs(plain.astype(np.float32) - VECTORS[order]).max() < 2e-3
    assert pq.read_table(tmp_path / "x.parquet")["id"].to_pylist() == sorted(IDS)


def test_a_view_is_the_file_and_can_not_spoil_it(tmp_path: Path):
    view = written(tmp_path).view()
    before = sha256_of(tmp_path)
    assert view.shape == (100, 4)
    assert np.array_equal(view.numpy(), VECTORS[np.argsort(IDS)])
    view[0] = 7
    assert sha256_of(tmp_path) == before


def test_an_unknown_id_is_named(tmp_path: Path):
    with pytest.raises(KeyError, match=sha256_text("no")):
        written(tmp_path).take([IDS[0], sha256_text("no")])
