"""The plane on which pictures differ most."""

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import sha256_text
from pipeline.clip import projection, store
from pipeline.clip.cache import as_ids

IDS = sorted(sha256_text(str(i)) for i in range(50))


def stored(folder, vectors):
    of = dict(zip(IDS, vectors.astype(np.float32), strict=False))

    def vectors_of(some):
        return np.stack([of[i.decode()] for i in some.tolist()])

    store.write(folder, "images", as_ids(IDS[: len(vectors)]), vectors_of, dtype="fp32")
    return store.read(folder, "images")


def pairs(count=50):
    """Two captions an image."""
    frame = pd.DataFrame({"image_id": IDS[:count], "split": "train", "label": range(count)})
    return pd.concat([frame, frame]).astype({"label": str})


def test_axes_are_those_of_a_singular_value_decomposition(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(50, 6)) * [1, 9, 2, 5, 1, 1]
    found = projection.project(stored(tmp_path, vectors), pairs())
    centred = vectors.astype(np.float32).astype(np.float64)
    centred -= centred.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign([row[np.abs(row).argmax()] for row in axes])[:, None]
    assert np.abs(found.points[["x", "y"]].to_numpy() - centred @ axes[:2].T).max() < 1e-4
    assert found.explained == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum(), abs=1e-4)
    assert found.points.label.tolist() == [str(i) for i in range(50)]


def test_of_many_pictures_a_sample_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(projection, "SHOWN", 20)
    vectors = np.random.default_rng(0).normal(size=(50, 6))
    found = projection.project(stored(tmp_path, vectors), pairs())
    assert found.points.label.tolist() == [str(i) for i in range(0, 50, 3)]


@pytest.mark.parametrize("count", [1, 2])
def test_two_pictures_have_no_plane(tmp_path, count):
    found = projection.project(stored(tmp_path, np.eye(4)[:count]), pairs(count))
    assert (len(found.points), found.explained) == (0, 0.0)


def test_pictures_that_are_all_the_same_explain_nothing(tmp_path):
    found = projection.project(stored(tmp_path, np.ones((5, 4))), pairs(5))
    assert found.explained == 0
    assert found.points[["x", "y"]].abs().to_numpy().max() == 0
