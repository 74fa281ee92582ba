"""Folders of images with something beside them that may hold the captions."""

import re
from pathlib import Path

import pytest
from test_formats import picture, read

from pipeline.errors import DataError


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture("a") if name.endswith(".jpg") else b"a")


@pytest.mark.parametrize(
    "name",
    ["captions.txt", "captions.csv.gz", "a.ndjson", "a.json", "images/metadata.jsonl", "A.XLSX"],
)
def test_captions_that_no_reader_takes_are_told(tmp_path: Path, name: str) -> None:
    """The folder's name would be the caption of all pictures."""
    write(tmp_path, "images/1.jpg", "images/2.jpg", name)
    with pytest.raises(DataError, match=f"it holds {re.escape(name)}. If captions are"):
        read(tmp_path)
    source, (rows, _) = read(tmp_path, format="class_folders")
    assert rows["caption"].tolist() == ["a photo of a images."] * 2
    assert source.notes == [f"not read, as captions come from the folders' names: {name}"]


def test_so_are_those_of_hugging_faces_image_folders(tmp_path: Path) -> None:
    parts = ("train", "test")
    write(tmp_path, *(f"{p}/{name}" for p in parts for name in ("1.jpg", "metadata.jsonl")))
    with pytest.raises(DataError, match=r"it holds test/metadata\.jsonl, train/metadata\.jsonl"):
        read(tmp_path)


def test_beside_two_classes_they_are_a_note(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg", "dog/2.jpg", "README.txt", *(f"{i}.json" for i in range(4)))
    source, (rows, _) = read(tmp_path)
    assert rows["label"].tolist() == ["cat", "dog"]
    assert source.notes == [
        "not read, as captions come from the folders' names: 0.json, 1.json, 2.json and 2 more"
    ]


def test_one_class_with_nothing_beside_it_is_a_class(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg", "cat/2.jpg")
    source, (rows, _) = read(tmp_path)
    assert rows["label"].tolist() == ["cat", "cat"]
    assert source.notes == []
