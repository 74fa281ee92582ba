"""Finding pictures by text, and handing embeddings to other tools."""

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import sha256_text
from pipeline.clip import store
from pipeline.clip.cache import as_ids
from pipeline.clip.export import export
from pipeline.clip.search import nearest
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table
from pipeline.errors import ConfigError, DataError

VECTORS = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
IDS = [sha256_text(str(i)) for i in range(50)]


def stored(folder, name, ids, vectors):
    folder.mkdir(exist_ok=True)
    of = dict(zip(ids, vectors, strict=True))
    store.write(
        folder,
        name,
        as_ids(ids),
        lambda some: np.stack([of[i.decode()] for i in some.tolist()]),
        dtype="fp32",
    )
    return store.read(folder, name)


@pytest.mark.parametrize("block", [7, 1000])
def test_the_nearest_come_first(tmp_path, monkeypatch, block):
    monkeypatch.setattr(store.Embeddings.blocks, "__defaults__", (block,))
    images = stored(tmp_path, "images", IDS, VECTORS)
    places, cosines = nearest(images, VECTORS[3], count=5)
    expected = np.argsort(-(VECTORS @ VECTORS[3]))[:5]
    assert [images.ids[place].decode() for place in places] == [IDS[i] for i in expected]
    assert cosines == pytest.approx((VECTORS @ VECTORS[3])[expected])


def test_ties_go_by_id_and_few_pictures_are_all(tmp_path):
    same = np.ones((4, 6), dtype=np.float32)
    images = stored(tmp_path, "images", IDS[:4], same)
    places, _ = nearest(images, same[0], count=9)
    assert places.tolist() == [0, 1, 2, 3]


@pytest.fixture
def embedded(tmp_path):
    """Ten pairs of five images, with vectors."""
    captions = [f"caption {i}" for i in range(10)]
    known = {"packed": False, "width": 8, "height": 8, "split": "train"}
    rows = [
        {
            **dict.fromkeys(PAIR.names),
            **known,
            "pair": i + 1,
            "source_row": i + 1,
            "image_id": IDS[i // 2],
            "image": f"{i // 2}.jpg",
            "file": f"{i // 2}.jpg",
            "caption": captions[i],
        }
        for i in range(10)
    ]
    (tmp_path / "clean").mkdir()
    write_table(pd.DataFrame(rows), PAIR, tmp_path / "clean" / PAIRS_FILE)
    stored(tmp_path / "emb", "images", IDS[:5], VECTORS[:5])
    stored(tmp_path / "emb", "texts", [sha256_text(c) for c in captions], VECTORS[10:20])
    return tmp_path


def test_an_export_holds_a_row_a_pair_as_clip_retrieval_reads_it(embedded):
    assert export(embedded / "clean", embedded / "emb", embedded / "x", dtype="fp32", rows=4) == 10
    parts = [np.load(embedded / f"x/img_emb/img_emb_{i}.npy") for i in range(3)]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert np.array_equal(np.concatenate(parts), VECTORS[:5].repeat(2, axis=0))
    texts = [np.load(embedded / f"x/text_emb/text_emb_{i}.npy") for i in range(3)]
    assert np.array_equal(np.concatenate(texts), VECTORS[10:20])
    told = pd.concat(
        [pd.read_parquet(embedded / f"x/metadata/metadata_{i}.parquet") for i in range(3)]
    )
    assert told["caption"].tolist() == [f"caption {i}" for i in range(10)]
    assert told["image_path"].iloc[9] == "4.jpg"


def test_an_export_overwrites_nothing(embedded):
    (embedded / "x").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        export(embedded / "clean", embedded / "emb", embedded / "x", dtype="fp32")


def test_an_export_of_other_pairs_says_what_to_do(embedded):
    (embedded / "emb" / "images.parquet").unlink()
    with pytest.raises(DataError, match="run `dvc repro embed`"):
        export(embedded / "clean", embedded / "emb", embedded / "x", dtype="fp32")
    assert not (embedded / "x").exists()
