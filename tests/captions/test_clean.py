import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.captions.clean import clean
from pipeline.data.pairs import (
    EXAMPLES_FILE,
    IMAGE,
    IMAGES_FILE,
    LABELS_FILE,
    LEAK,
    LEAKS_FILE,
    NEAR_CAPTIONS_FILE,
    NEAR_IMAGES_FILE,
    PAIR,
    REJECTED,
    read_pairs,
    read_rejected,
    write_stage,
    write_table,
)
from pipeline.data.signatures import signature
from pipeline.errors import DataError
from pipeline.params import CleanParams, Params

CAPTIONS = ["A red star.", "a  RED star", "a <b>blue</b> disc", "#nothing", "a red star"]
IMAGES = ["a", "a", "b", "c", "d"]


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC)


def given(
    folder: Path, captions: list[str] = CAPTIONS, images: list[str] = IMAGES, **columns: Any
) -> Path:
    """Pairs whose image `a` looks like its near-duplicate `a2`, and like nothing else."""
    count = len(captions)
    rows = pd.DataFrame(
        {"pair": range(1, count + 1), "source_row": range(1, count + 1), "image_id": images,
         "image": images, "file": images, "offset": None, "length": None, "packed": False,
         "caption": captions, "label": None, "group": None, "split": None, "image_group": None,
         "width": 96, "height": 80, **columns}
    )  # fmt: skip
    folder.mkdir()
    write_stage(folder, rows[PAIR.names], pd.DataFrame(columns=REJECTED.names))
    distinct = sorted(set(images))
    looks = [picture(ord(name[0])) for name in distinct]
    looks = [
        p.resize((120, 100)) if n.endswith("2") else p for n, p in zip(distinct, looks, strict=True)
    ]
    facts = pd.DataFrame(
        {"image_id": distinct, "width": 96, "height": 80, "format": "JPEG", "mode": "RGB",
         "brightness": 100.0, "signature": [signature(look) for look in looks]}
    )  # fmt: skip
    write_table(facts, IMAGE, folder / IMAGES_FILE)
    return folder


def changed(params: CleanParams, **values: Any) -> CleanParams:
    return CleanParams.model_validate({**params.model_dump(), **values})


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


def test_examples_show_each_rule_at_work(tmp_path: Path, defaults: Params) -> None:
    clean(given(tmp_path / "in"), tmp_path / "out", defaults.clean, seed=0)
    examples = json.loads((tmp_path / "out" / EXAMPLES_FILE).read_text())
    before, after = CAPTIONS[2], examples["strip_html"][0]["after"]
    assert examples["strip_html"][0] == {"source_row": 3, "before": before, "after": after}
    assert "<b>" not in after
    assert examples["strip_handles"][0]["source_row"] == 4


def test_a_given_split_is_kept_and_its_leaks_set_aside(tmp_path: Path, defaults: Params) -> None:
    split = ["train", "test", "train", "val", "val"]
    clean(given(tmp_path / "in", split=split), tmp_path / "out", defaults.clean, seed=0)
    rejected = read_rejected(tmp_path / "out").set_index("source_row")
    assert rejected.reason[1] == "image_in_two_splits"
    assert read_pairs(tmp_path / "out").set_index("source_row").split[2] == "test"
    leak = pq.read_table(tmp_path / "out" / LEAKS_FILE).to_pylist()[0]
    assert (leak["pair"], leak["split"], leak["other"], leak["other_split"]) == (
        1, "train", 2, "test"
    )  # fmt: skip


NEAR = {"captions": ["a red star", "the star of Rome", "a cat"], "images": ["a", "a2", "b"]}


def test_a_near_duplicate_across_the_split_is_set_aside_in_training(
    tmp_path: Path, defaults: Params
) -> None:
    folder = given(tmp_path / "in", **NEAR, split=["test", "train", "val"])
    found = clean(folder, tmp_path / "out", defaults.clean, seed=0)
    assert found["rejected"] == {"near_image_in_two_splits": 1}
    assert found["near_images"] == {"pairs": 1, "members": 2, "groups": 1}
    leak = pq.read_table(tmp_path / "out" / LEAKS_FILE).to_pylist()[0]
    assert (leak["image_id"], leak["other_id"], leak["other_split"]) == ("a2", "a", "test")
    assert leak["similarity"] >= defaults.clean.near_images.min_similarity


def test_near_duplicates_in_one_split_stay_and_share_a_group(
    tmp_path: Path, defaults: Params
) -> None:
    params = changed(defaults.clean, split={"train": 1.0, "val": 0.0, "test": 0.0})
    clean(given(tmp_path / "in", **NEAR, split="train"), tmp_path / "out", params, seed=0)
    pairs = read_pairs(tmp_path / "out")
    assert pairs.image_group.tolist() == ["a", "a", "b"]
    near = pq.read_table(tmp_path / "out" / NEAR_IMAGES_FILE).to_pylist()
    assert [(row["a"], row["b"], row["group"]) for row in near] == [("a", "a2", "a")]


def test_a_leak_stops_where_params_say_so(tmp_path: Path, defaults: Params) -> None:
    folder = given(tmp_path / "in", **NEAR, split=["test", "train", "val"])
    params, failed = changed(defaults.clean, leaks="stop"), tmp_path / "failed"
    with pytest.raises(DataError) as error:
        clean(folder, tmp_path / "out", params, seed=0, failed=failed)
    assert "1 rows leak" in str(error.value)
    assert "row 2 (train) and row 1 (test): near image in two splits: a2 and a" in str(error.value)
    assert str(failed / LEAKS_FILE) in str(error.value)
    assert error.value.left == failed
    (leak,) = pq.read_table(failed / LEAKS_FILE, schema=LEAK).to_pylist()
    assert (leak["source_row"], leak["other_row"]) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_all_leaks_are_listed_where_the_message_shows_five(
    tmp_path: Path, defaults: Params
) -> None:
    names = [f"{i:02}" for i in range(9)]
    folder = given(
        tmp_path / "in", [f"caption number {i}" for i in range(19)], [*names, *names, "x"],
        split=["test"] * 9 + ["train"] * 9 + ["val"], source_row=range(101, 120),
    )  # fmt: skip
    params, failed = changed(defaults.clean, leaks="stop"), tmp_path / "failed"
    with pytest.raises(DataError, match="and 4 more"):
        clean(folder, tmp_path / "out", params, seed=0, failed=failed)
    leaks = pq.read_table(failed / LEAKS_FILE).to_pandas()
    assert leaks["source_row"].tolist() == list(range(110, 119))
    assert leaks["other_row"].tolist() == list(range(101, 110))


def test_a_split_without_val_needs_a_word_before_any_work(tmp_path: Path, defaults: Params) -> None:
    folder = given(tmp_path / "in", split=["train", "train", "test", "train", "train"])
    with pytest.raises(DataError, match="cut_from_train"):
        clean(folder, tmp_path / "out", defaults.clean, seed=0)
    cut = changed(defaults.clean, cut_from_train=["val"])
    assert clean(folder, tmp_path / "out", cut, seed=0)["split"]["test"]["pairs"] == 1


def test_a_group_stays_on_one_side_of_a_given_split(tmp_path: Path, defaults: Params) -> None:
    folder = given(
        tmp_path / "in", ["one star", "two cats", "three dogs"], ["a", "b", "c"],
        group=["g", "g", None], split=["train", "test", "val"],
    )  # fmt: skip
    clean(folder, tmp_path / "out", defaults.clean, seed=0)
    rejected = read_rejected(tmp_path / "out")
    assert rejected[["source_row", "reason"]].to_numpy().tolist() == [[1, "group_in_two_splits"]]


TWICE = ["a large red star on an old wooden table near the window",
         "a large red star on an old wooden table near the window today",
         "something else"]  # fmt: skip


def test_near_captions_of_one_image_are_kept_or_set_aside(tmp_path: Path, defaults: Params) -> None:
    folder = given(tmp_path / "in", TWICE, ["a", "a", "b"])
    found = clean(folder, tmp_path / "kept", defaults.clean, seed=0)
    assert found["rejected"] == {}
    assert found["near_captions"] == {"pairs": 1, "members": 2, "groups": 1}
    near = pq.read_table(tmp_path / "kept" / NEAR_CAPTIONS_FILE).to_pylist()
    assert [(row["a"], row["b"], row["group"]) for row in near] == [(1, 2, 1)]
    strict = {"find": True, "min_similarity": 0.8, "same_image": "set_aside"}
    clean(folder, tmp_path / "out", changed(defaults.clean, near_captions=strict), seed=0)
    rejected = read_rejected(tmp_path / "out")
    assert rejected[["source_row", "reason"]].to_numpy().tolist() == [[2, "caption_near_repeated"]]


def test_rows_added_later_move_no_row_to_another_split(tmp_path: Path, defaults: Params) -> None:
    captions = [f"caption number {i} of a thing" for i in range(300)]
    ids = [f"{i:03}" for i in range(300)]
    quick = changed(defaults.clean, near_images={"find": False, "min_similarity": 0.9})
    clean(given(tmp_path / "few", captions[:200], ids[:200]), tmp_path / "a", quick, seed=0)
    clean(given(tmp_path / "all", captions, ids), tmp_path / "b", quick, seed=0)
    few, every = (read_pairs(tmp_path / name).set_index("image_id").split for name in "ab")
    assert every[few.index].tolist() == few.tolist()


def labelled(folder: Path) -> Path:
    return given(
        folder, ["one star", "two cats", "three dogs", "#none"], ["a", "b", "c", "d"],
        label=["x", "y", "x", "z"], split=["train", "test", "val", "val"],
    )  # fmt: skip


def test_labels_that_a_part_of_the_split_lacks_are_told(
    tmp_path: Path, defaults: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = labelled(tmp_path / "in")
    found = clean(folder, tmp_path / "out", defaults.clean, seed=0)
    # z lost its only pair, which was empty after cleaning; x alone is in two parts.
    assert found["labels"] == {
        "distinct": 3, "missing": {"train": 2, "val": 2, "test": 2}, "missing_share": 1.0,
    }  # fmt: skip
    assert found["warned"] == ["labels_missing"]
    assert json.loads((tmp_path / "out" / LABELS_FILE).read_text()) == {
        "distinct": 3,
        "missing": {"train": ["y", "z"], "val": ["y", "z"], "test": ["x", "z"]},
    }
    said = capsys.readouterr().out.splitlines()[0]
    assert said == (
        "warning: share of labels that a part of the split lacks: 1 of 3, above "
        "clean.labels_missing.warn: 0 (train lacks 2: y, z; val lacks 2: y, z; test lacks 2: x, z; "
        f"all are in {tmp_path / 'out' / LABELS_FILE})"
    )


def test_missing_labels_stop_where_params_say_so(tmp_path: Path, defaults: Params) -> None:
    folder, failed = labelled(tmp_path / "in"), tmp_path / "failed"
    params = changed(defaults.clean, labels_missing={"warn": 0.1, "stop": 0.9})
    with pytest.raises(DataError, match=r"above clean\.labels_missing\.stop: 0\.9") as error:
        clean(folder, tmp_path / "out", params, seed=0, failed=failed)
    assert error.value.left == failed
    assert json.loads((failed / LABELS_FILE).read_text())["missing"]["val"] == ["y", "z"]
    params = changed(defaults.clean, labels_missing={"warn": None, "stop": 1.0})
    assert clean(folder, tmp_path / "out", params, seed=0)["warned"] == []


def test_where_there_is_no_label_none_is_said_to_be_covered(
    tmp_path: Path, defaults: Params
) -> None:
    found = clean(given(tmp_path / "in"), tmp_path / "out", defaults.clean, seed=0)
    nothing = dict.fromkeys(("train", "val", "test"))
    assert found["labels"] == {"distinct": 0, "missing": nothing, "missing_share": None}
    assert found["warned"] == []


def test_a_part_that_is_meant_to_be_empty_lacks_no_label(tmp_path: Path, defaults: Params) -> None:
    folder = given(tmp_path / "in", label=["x"] * 5)
    params = changed(defaults.clean, split={"train": 1.0, "val": 0.0, "test": 0.0})
    found = clean(folder, tmp_path / "out", params, seed=0)["labels"]
    assert found["missing"] == {"train": 0, "val": None, "test": None}
    assert found["missing_share"] == 0.0


def test_cleaning_what_is_clean_changes_nothing(tmp_path: Path, defaults: Params) -> None:
    params = changed(defaults.clean, cut_from_train=["val", "test"])
    clean(given(tmp_path / "in"), tmp_path / "once", params, seed=0)
    (tmp_path / "once" / IMAGES_FILE).write_bytes((tmp_path / "in" / IMAGES_FILE).read_bytes())
    found = clean(tmp_path / "once", tmp_path / "twice", params, seed=0)
    assert found["rejected"] == {}
    assert read_pairs(tmp_path / "twice").equals(read_pairs(tmp_path / "once"))


def test_no_caption_left_is_an_error_with_an_example(tmp_path: Path, defaults: Params) -> None:
    params = changed(defaults.clean, min_words=50)
    with pytest.raises(DataError, match=r"row 1: 'A red star\.'"):
        clean(given(tmp_path / "in"), tmp_path / "out", params, seed=0)
    assert not (tmp_path / "out").exists()
