from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.captions.clean import clean
from pipeline.data.pairs import PAIR, REJECTED, read_pairs, read_rejected, write_stage
from pipeline.errors import DataError
from pipeline.params import Params

CAPTIONS = ["A red star.", "a  RED star", "a <b>blue</b> disc", "#nothing", "a red star"]
IMAGES = ["a", "a", "b", "c", "d"]


def given(folder: Path, **columns: Any) -> Path:
    rows = pd.DataFrame(
        {"source_row": range(1, 6), "image_id": IMAGES, "image": IMAGES, "caption": CAPTIONS,
         "label": None, "group": None, "split": None, "width": 8, "height": 8, **columns}
    )  # fmt: skip
    folder.mkdir()
    write_stage(folder, rows[PAIR.names], pd.DataFrame(columns=REJECTED.names))
    return folder


def test_what_goes_and_why(tmp_path: Path, defaults: Params) -> None:
    found = clean(given(tmp_path / "in"), tmp_path / "out", defaults.clean, seed=0)
    assert found["read"] == 5
    assert found["accepted"] == 3
    assert found["rejected"] == {"caption_empty_after_cleaning": 1, "pair_repeated": 1}
    rejected = read_rejected(tmp_path / "out")
    assert rejected[["source_row", "reason", "value"]].to_numpy().tolist() == [
        [2, "pair_repeated", "a  RED star"],
        [4, "caption_empty_after_cleaning", "#nothing"],
    ]
    pairs = read_pairs(tmp_path / "out")
    assert pairs.caption.tolist() == ["A red star.", "a blue disc", "a red star"]
    assert sum(s["pairs"] for s in found["split"].values()) == 3


def test_a_given_split_is_kept_and_its_leaks_set_aside(tmp_path: Path, defaults: Params) -> None:
    split = ["train", "test", "train", "val", "val"]
    clean(given(tmp_path / "in", split=split), tmp_path / "out", defaults.clean, seed=0)
    rejected = read_rejected(tmp_path / "out").set_index("source_row")
    assert rejected.reason[1] == "image_in_two_splits"
    assert read_pairs(tmp_path / "out").set_index("source_row").split[2] == "test"


def test_cleaning_what_is_clean_changes_nothing(tmp_path: Path, defaults: Params) -> None:
    clean(given(tmp_path / "in"), tmp_path / "once", defaults.clean, seed=0)
    found = clean(tmp_path / "once", tmp_path / "twice", defaults.clean, seed=0)
    assert found["rejected"] == {}
    assert read_pairs(tmp_path / "twice").equals(read_pairs(tmp_path / "once"))


def test_no_caption_left_is_an_error_with_an_example(tmp_path: Path, defaults: Params) -> None:
    params = defaults.clean.model_copy(update={"min_words": 50})
    with pytest.raises(DataError, match=r"row 1: 'A red star\.'"):
        clean(given(tmp_path / "in"), tmp_path / "out", params, seed=0)
    assert not (tmp_path / "out").exists()
