"""Which pairs are taken for mismatched, on vectors that can be followed by hand."""

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import sha256_text
from pipeline.clip import store
from pipeline.clip.cache import as_ids
from pipeline.clip.mismatch import REASON, compare, reject
from pipeline.params import MismatchParams

# Four pictures at the ends of two axes, and three captions: one suits the first, one the second,
# and one is as near to all of them as it can be.
PICTURES = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], dtype=np.float32)
CAPTIONS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)


def ids(kind, count):
    return as_ids([sha256_text(f"{kind}{i}") for i in range(count)])


def stored(folder, kind, vectors):
    of = dict(zip(ids(kind, len(vectors)).tolist(), vectors, strict=True))
    names = ids(kind, len(vectors))
    store.write(
        folder, kind, names, lambda some: np.stack([of[i] for i in some.tolist()]), dtype="fp32"
    )
    return store.read(folder, kind)


def compared(folder, picture_of, caption_of):
    return compare(
        ids("images", 4)[picture_of],
        ids("texts", 3)[caption_of],
        stored(folder, "images", PICTURES),
        stored(folder, "texts", CAPTIONS),
    )


def test_a_fit_counts_deviations_above_what_the_caption_has_with_other_pictures(tmp_path):
    cosines, fits = compared(tmp_path, [0, 1, 2], [0, 0, 0])
    # The caption's cosines with all four pictures are 1, 0, −1, 0: mean 0, deviation √½.
    assert cosines.tolist() == [1, 0, -1]
    assert fits == pytest.approx([np.sqrt(2), 0, -np.sqrt(2)])


def test_a_caption_that_suits_all_alike_has_fit_zero(tmp_path):
    _, fits = compared(tmp_path, [0, 3], [2, 2])
    assert fits.tolist() == [0, 0]


def pairs(splits):
    return pd.DataFrame({"pair": range(1, len(splits) + 1), "split": splits})


FITS = np.array([3, -1, 0.5, -2, 2], dtype=np.float32)


@pytest.mark.parametrize(
    ("below", "share", "dropped"),
    [
        (None, 0.0, []),
        (0.0, 0.0, [2]),
        (1.0, 0.0, [2, 3]),
        (None, 0.5, [2, 3]),
        (None, 0.25, [2]),
        (0.0, 0.5, [2, 3]),
    ],
)
def test_training_pairs_are_dropped_by_fit_or_by_share(below, share, dropped):
    table = pairs(["train", "train", "train", "test", "train"])
    found = reject(table, FITS, MismatchParams(drop_below=below, drop_share=share))
    assert table["pair"][found == REASON].tolist() == dropped
    assert found.isna().sum() == 5 - len(dropped)


def test_validation_and_test_keep_every_pair():
    table = pairs(["test", "test", "val", "val", "test"])
    assert reject(table, FITS, MismatchParams(drop_below=9.0, drop_share=0.9)).isna().all()
