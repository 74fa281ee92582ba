"""COCO's files as they are, and as nobody should write them."""

import json
import tracemalloc
from pathlib import Path

import pytest
from test_formats import params, read

from pipeline.data.sources import coco
from pipeline.data.sources.detect import open_source
from pipeline.errors import DataError

PARTS = ("train", "val")


def content(*, captions: bool = True, start: int = 1) -> dict[str, object]:
    """Three images, of which the last has no annotation, and three annotations."""
    images = [{"id": start + i, "file_name": f"{start + i:012}.jpg"} for i in range(3)]
    told = {"caption": "a caption"} if captions else {"bbox": [0, 1, 2, 3], "segmentation": [[1]]}
    notes = [{"id": 90 + i, "image_id": start + i % 2, **told} for i in range(3)]
    return {"info": {"year": 2017}, "images": images, "annotations": notes}


def write(file: Path, text: str | bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def coco_2017(folder: Path) -> None:
    for start, part in zip((1, 101), PARTS, strict=True):
        for kind in ("captions", "instances", "person_keypoints"):
            text = json.dumps(content(captions=kind == "captions", start=start))
            write(folder / "annotations" / f"{kind}_{part}2017.json", text)
        for number in range(start, start + 3):
            write(folder / f"{part}2017" / f"{number:012}.jpg", b"a picture")


def test_the_layout_of_2017(tmp_path: Path) -> None:
    coco_2017(tmp_path)
    source, (rows, malformed) = read(tmp_path)
    assert [file.name for file in source.files] == [f"captions_{p}2017.json" for p in PARTS]
    assert malformed.empty
    assert rows[["file", "caption", "split"]].to_numpy().tolist() == [
        [f"{part}2017/{number:012}.jpg", caption, part]
        for start, part in zip((1, 101), PARTS, strict=True)
        for number, caption in (
            (start, "a caption"), (start + 1, "a caption"), (start, "a caption"), (start + 2, None),
        )
    ]  # fmt: skip
    assert source.notes == [
        "files are named for a split (train, val): of rows without one it is theirs",
        "images of captions_train2017.json that do not lie in . are looked for in train2017",
        "images of captions_val2017.json that do not lie in . are looked for in val2017",
        "left out, as no annotation has a caption: instances_train2017.json, "
        "instances_val2017.json, person_keypoints_train2017.json, person_keypoints_val2017.json",
    ]


def test_image_root_comes_before_the_folder_of_a_part(tmp_path: Path) -> None:
    coco_2017(tmp_path)
    write(tmp_path / f"{1:012}.jpg", b"another")
    _, (rows, _) = read(tmp_path)
    assert rows["file"][:2].tolist() == [f"{1:012}.jpg", f"train2017/{2:012}.jpg"]
    (tmp_path / "images").mkdir()
    for part in PARTS:
        (tmp_path / f"{part}2017").rename(tmp_path / "images" / f"{part}2017")
    _, (rows, _) = read(tmp_path, image_root="images")
    assert rows["file"][0] == f"images/train2017/{1:012}.jpg"


def test_annotations_without_captions_are_no_captions_file(tmp_path: Path) -> None:
    write(tmp_path / "instances.json", json.dumps(content(captions=False)))
    with pytest.raises(DataError, match="captioned `annotations`"):
        read(tmp_path, format="coco")


def test_annotations_may_come_before_images(tmp_path: Path) -> None:
    whole = content()
    write(tmp_path / "a.json", json.dumps({key: whole[key] for key in ("annotations", "images")}))
    _, (rows, malformed) = read(tmp_path)
    assert rows["caption"].tolist() == ["a caption"] * 3 + [None]
    assert malformed.empty


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    write(tmp_path / "a.json", b"\xef\xbb\xbf" + json.dumps(content()).encode())
    _, (rows, malformed) = read(tmp_path)
    assert (len(rows), len(malformed)) == (4, 0)


def test_a_truncated_file_keeps_its_whole_annotations(tmp_path: Path) -> None:
    text = json.dumps(content())
    write(tmp_path / "a.json", text[: text.rindex("image_id")])  # within the third annotation
    _, (rows, bad) = read(tmp_path)
    assert rows["caption"].tolist() == ["a caption"] * 2
    assert bad["value"].str.startswith("a.json ends as JSON: parse error: premature EOF").tolist()
    write(tmp_path / "a.json", text[: text.index("file_name")])  # no annotation is left of it
    _, (rows, bad) = read(tmp_path)
    assert len(rows) == 0
    assert len(bad) == 1


@pytest.mark.parametrize("number", ["9" * 6000, "-" + "9" * 6000, "9223372036854775808", "1e9999"])
def test_a_number_beyond_the_parsers_ends_the_file(tmp_path: Path, number: str) -> None:
    """Without `use_float` the first of these ends the interpreter."""
    whole = json.dumps(content()).replace('"id": 92', f'"id": {number}')
    write(tmp_path / "a.json", whole)
    _, (rows, bad) = read(tmp_path)
    assert len(rows) == 2
    assert bad["value"].str.contains("overflow").tolist() == [True]
    write(tmp_path / "a.json", f'{{"version": {number}, ' + whole[1:])
    with pytest.raises(DataError):
        read(tmp_path)


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
@pytest.mark.parametrize("place", ["top", "images", "annotations", "entry"])
def test_deep_nesting_is_refused_in_little_memory(tmp_path: Path, bracket: str, place: str) -> None:
    deep = bracket * 200_000
    text = json.dumps(content())
    texts = {
        "top": deep,
        "images": '{"images": [' + deep,
        "annotations": text[:-2] + "," + deep,
        "entry": text.replace('"caption": "a caption"', f'"caption": {deep}', 1),
    }
    write(tmp_path / "a.json", texts[place])
    tracemalloc.start()
    with pytest.raises(DataError) as error:
        list(open_source(params(tmp_path, format="coco")).batches())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000
    if place != "top":
        assert "a.json holds lists or objects nested more than 100 deep" in str(error.value)
        assert "data.captions" in str(error.value)


def test_nested_fields_are_no_part_of_a_row(tmp_path: Path) -> None:
    whole = content()
    odd = [[[{"caption": "inner", "image_id": 3}]]]
    notes: list[dict[str, object]] = whole["annotations"]  # type: ignore[assignment]
    notes[0]["segmentation"] = odd
    notes[1]["caption"] = ["one", "two"]
    notes[2]["caption"] = {"text": "inner"}
    write(tmp_path / "a.json", json.dumps(whole))
    _, (rows, _) = read(tmp_path)
    assert rows["caption"].tolist() == ["a caption", "one", "two", None, None]


def test_entries_that_are_none_are_told(tmp_path: Path) -> None:
    whole = content()
    whole["images"] += [5, None, [1], {"id": 9}, {"id": 1, "file_name": "other.jpg"}]  # type: ignore[operator]
    whole["annotations"] += ["x", {"image_id": 77, "caption": "lost"}]  # type: ignore[operator]
    write(tmp_path / "a.json", json.dumps(whole))
    _, (rows, bad) = read(tmp_path)
    assert len(rows) == 4
    assert bad["value"].tolist() == [
        "an image without id and file_name: 5",
        "an image without id and file_name: None",
        "an image without id and file_name: a list",
        "an image without id and file_name: {'id': 9}",
        "image 1 is listed twice: as 000000000001.jpg and as other.jpg",
        "an annotation without image_id: 'x'",
        "annotation of image 77, which is not listed",
    ]


@pytest.mark.parametrize(
    ("name", "folder"),
    [("captions_train2017.json", "train2017"), ("val.json", "val"), ("captions.json", None)],
)
def test_the_folder_of_a_file(name: str, folder: str | None) -> None:
    assert coco.folder_of(Path(name)) == folder
