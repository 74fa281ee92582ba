"""Validate and clean on real photographs, where they lie beside the checkout."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.captions.clean import clean
from pipeline.data.pairs import read_pairs, read_rejected, read_signatures
from pipeline.duplicates.images import BLOCK, near_pairs
from pipeline.duplicates.registration import similarities
from pipeline.params import DataParams, Params
from pipeline.validation.validate import validate

pytestmark = pytest.mark.real


def validated(data: DataParams, defaults: Params, out: Path) -> dict[str, Any]:
    (out / "accepted.json").write_text("[]")
    return validate(
        data,
        defaults.limits,
        count_tokens=lambda texts: np.array([len(text.split()) for text in texts]),
        token_limit=77,
        folder=out / "valid",
        packed=out / "images",
        quality=out / "quality",
        accepted=out / "accepted.json",
        cache=None,
        failed=out / "failed",
    )


def test_every_photograph_of_clothes_is_accepted(
    real: Path, defaults: Params, tmp_path: Path
) -> None:
    data = defaults.data.model_copy(
        update={"source": str(real / "clothing"), "image_root": "images"}
    )
    found = validated(data, defaults, tmp_path)
    assert (found["read"], found["accepted"], found["images"]) == (2148, 2148, 2148)
    cleaned = clean(tmp_path / "valid", tmp_path / "clean", defaults.clean, seed=0)
    assert cleaned["accepted"] == 2148


def test_photographs_on_two_sides_of_a_given_split_are_found(
    real: Path, defaults: Params, tmp_path: Path
) -> None:
    """`exercises` comes with a split that byte-identical photographs cross."""
    folder = real / "exercises"
    data = defaults.data.model_copy(
        update={"source": str(folder), "captions": "captions.csv", "image_root": "images"}
    )
    validated(data, defaults, tmp_path)
    clean(tmp_path / "valid", tmp_path / "clean", defaults.clean, seed=0)

    rows = pd.read_csv(folder / "captions.csv")
    rows["hash"] = [
        hashlib.md5((folder / "images" / name).read_bytes()).hexdigest() for name in rows.image
    ]
    order = {"test": 0, "val": 1, "train": 2}
    first = rows.groupby("hash")["split"].transform(lambda s: min(s, key=order.__getitem__))
    expected = set(rows.index[rows["split"] != first] + 1)
    rejected = read_rejected(tmp_path / "clean")
    leaks = rejected[rejected["reason"] == "image_in_two_splits"]
    assert len(expected) > 0
    assert set(leaks["source_row"]) == expected
    pairs = read_pairs(tmp_path / "clean")
    assert pairs.groupby("image_id")["split"].nunique().max() == 1


@pytest.mark.slow
def test_the_index_finds_what_a_comparison_of_all_pairs_finds(
    real: Path, defaults: Params, tmp_path: Path
) -> None:
    """On photographs, some of which are near-duplicates: the only pair of `exercises`, too."""
    for name in ("eshop", "exercises"):
        out = tmp_path / name
        out.mkdir()
        data = defaults.data.model_copy(
            update={
                "source": str(real / name), "captions": "captions.csv", "image_root": "images"
            }
        )  # fmt: skip
        validated(data, defaults, out)
        ids, signatures = read_signatures(out / "valid")
        least = defaults.clean.near_images.min_similarity
        found = near_pairs(ids, signatures, min_similarity=least)
        one, two = np.triu_indices(len(ids), 1)
        alike = np.concatenate(
            [
                similarities(signatures[one[i : i + BLOCK]], signatures[two[i : i + BLOCK]])
                for i in range(0, len(one), BLOCK)
            ]
        )
        expected = {
            tuple(sorted((ids[i], ids[j])))
            for i, j in zip(one[alike >= least], two[alike >= least], strict=True)
        }
        assert set(zip(found["a"], found["b"], strict=True)) == expected
        assert len(expected) == (name == "exercises")
