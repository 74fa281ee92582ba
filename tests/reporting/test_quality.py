"""What the page reads of validate's and clean's folders."""

import json

import pandas as pd
import pytest
from PIL import Image

from pipeline.data.pairs import LEAK, LEAKS_FILE, PAIR, PAIRS_FILE, write_table
from pipeline.reporting.quality import read_quality


def pair(number, image_id, split):
    known = {
        "pair": number,
        "source_row": number,
        "image_id": image_id,
        "image": f"{image_id}.png",
        "file": f"{image_id}.png",
        "packed": False,
        "caption": "a red star",
        "split": split,
        "width": 8,
        "height": 8,
    }
    return {name: known.get(name) for name in PAIR.names}


def leak(number, image_id, other, other_id):
    return {
        "pair": number,
        "source_row": number,
        "image": f"{image_id}.png",
        "image_id": image_id,
        "split": "train",
        "other": other,
        "other_row": other,
        "other_image": f"{other_id}.png",
        "other_id": other_id,
        "other_split": "test",
        "reason": "near_image_in_two_splits",
        "similarity": 0.97,
    }


@pytest.fixture
def read(tmp_path):
    def reading(leaks, missing=None):
        source, valid, clean, quality = (
            tmp_path / name for name in ("source", "valid", "clean", "quality")
        )
        for folder in (source, valid, clean, quality):
            folder.mkdir()
        for name in ("one", "two"):
            Image.new("RGB", (8, 8), "red").save(source / f"{name}.png")
        pairs = [pair(1, "one", "train"), pair(2, "two", "test")]
        write_table(pd.DataFrame(pairs), PAIR, valid / PAIRS_FILE)
        write_table(pd.DataFrame(leaks, columns=LEAK.names), LEAK, clean / LEAKS_FILE)
        (clean / "examples.json").write_text("{}")
        (clean / "labels.json").write_text(json.dumps({"distinct": 99, "missing": missing or {}}))
        for name, content in (("checks", []), ("source", {}), ("drift", {})):
            (quality / f"{name}.json").write_text(json.dumps(content))
        return read_quality(valid, clean, quality, source=source, packed=tmp_path / "packed")

    return reading


def test_data_without_a_leak_is_read_as_such(read):
    found = read([])
    assert found.leaks == []
    assert found.leak_count == 0


def test_both_pictures_of_a_leak_are_shown_and_counted_once(read):
    found = read([leak(1, "one", 2, "two"), leak(3, "one", 2, "two")])
    assert found.leak_count == 1
    (shown,) = found.leaks
    assert shown.picture
    assert shown.other_picture
    assert (shown.split, shown.other_split) == ("train", "test")


def test_as_many_leaks_are_shown_as_a_page_bears(read):
    found = read([leak(i, f"{i}", 2, "two") for i in range(30)])
    assert (len(found.leaks), found.leak_count) == (24, 30)


def test_the_first_labels_that_a_part_lacks_are_read(read):
    labels = [f"kind {i:02}" for i in range(40)]
    missing = read([], {"train": [], "val": labels, "test": None}).labels_missing
    assert missing == {"train": [], "val": labels[:12], "test": None}
