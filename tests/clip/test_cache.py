"""What is kept of embeddings between runs, and what is not believed."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import sha256_text
from pipeline.clip.cache import EmbeddingCache, as_ids

KEY = {"model": "a", "precision": "fp32"}


def named(*numbers):
    return as_ids([sha256_text(str(number)) for number in numbers])


def rows(*numbers):
    return np.array([[n, n + 0.5, -n] for n in numbers], dtype=np.float32)


def test_vectors_come_back_in_the_order_asked_for(tmp_path: Path):
    cache = EmbeddingCache(tmp_path, KEY)
    cache.add(named(1, 2, 3), rows(1, 2, 3))
    cache.add(named(7, 5), rows(7, 5))
    again = EmbeddingCache(tmp_path, KEY)
    assert np.array_equal(again.take(named(5, 1, 7, 1)), rows(5, 1, 7, 1))
    assert again.lacks(named(1, 4, 7)).tolist() == [False, True, False]


def test_an_empty_cache_lacks_everything(tmp_path: Path):
    assert EmbeddingCache(tmp_path, KEY).lacks(named(1, 2)).all()


def test_an_unknown_id_is_named(tmp_path: Path):
    cache = EmbeddingCache(tmp_path, KEY)
    cache.add(named(1), rows(1))
    cache.refresh()
    with pytest.raises(KeyError, match=sha256_text("9")):
        cache.take(named(1, 9))


@pytest.mark.parametrize("change", [{"model": "b"}, {"precision": "bf16"}, {"device": "gpu"}])
def test_another_way_of_computing_knows_nothing(tmp_path: Path, change: dict[str, str]):
    EmbeddingCache(tmp_path, KEY).add(named(1), rows(1))
    assert not EmbeddingCache(tmp_path, KEY).lacks(named(1)).any()
    assert EmbeddingCache(tmp_path, KEY | change).lacks(named(1)).all()


@pytest.mark.parametrize("at", [0, 700, -1])
def test_a_damaged_segment_is_removed_and_its_rows_are_lacking(tmp_path: Path, at: int):
    cache = EmbeddingCache(tmp_path, KEY)
    cache.add(named(1, 2), rows(1, 2))
    cache.add(named(3), rows(3))
    file = next(f for f in tmp_path.rglob("*.arrow") if b"%s" % named(1)[0] in f.read_bytes())
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    again = EmbeddingCache(tmp_path, KEY)
    assert again.corrupt == 1
    assert again.lacks(named(1, 2, 3)).tolist() == [True, True, False]
    assert not file.exists()


def test_a_part_that_a_killed_writer_left_is_not_read(tmp_path: Path):
    cache = EmbeddingCache(tmp_path, KEY)
    cache.add(named(1), rows(1))
    file = next(tmp_path.rglob("*.arrow"))
    file.with_name(".x.part").write_bytes(file.read_bytes()[:100])
    again = EmbeddingCache(tmp_path, KEY)
    assert again.corrupt == 0
    assert np.array_equal(again.take(named(1)), rows(1))


def add_some(root, numbers):
    cache = EmbeddingCache(root, KEY)
    for number in numbers:
        cache.add(named(number), rows(number))


def test_several_processes_add_at_once(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    shares = (range(20), range(10, 30))
    processes = [context.Process(target=add_some, args=(tmp_path, share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    cache = EmbeddingCache(tmp_path, KEY)
    assert np.array_equal(cache.take(named(*range(30))), rows(*range(30)))
