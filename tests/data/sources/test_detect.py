"""Links, and images of kinds that are not read: told, whatever the format."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_formats import FORMATS, LABELS, picture, read

from pipeline.data.sources import rows as rows_of
from pipeline.errors import DataError

LINKED = {
    "csv": "c.csv", "jsonl": "c.jsonl", "parquet": "c.parquet", "shards": "00000.tar",
    "compressed": "00000.tar.gz", "parquet_images": "data/train-00000-of-00001.parquet",
    "coco": "annotations/captions.json", "save_to_disk": "data-00000-of-00001.arrow",
}  # fmt: skip
"""The file that each format is read from."""


def sources(tmp_path: Path, name: str) -> tuple[Path, Path]:
    """A source in that format, and a folder beside it."""
    folder, outside = tmp_path / "source", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    FORMATS[name][1](folder)
    return folder, outside


@pytest.mark.parametrize("wanted", ["auto", "named"])
@pytest.mark.parametrize("name", LINKED)
def test_a_link_out_of_the_source_is_refused(tmp_path: Path, name: str, wanted: str) -> None:
    folder, outside = sources(tmp_path, name)
    file = folder / LINKED[name]
    shutil.move(file, outside / file.name)
    file.symlink_to(outside / file.name)
    with pytest.raises(DataError) as error:
        read(folder, format="auto" if wanted == "auto" else FORMATS[name][0])
    assert str(error.value) == (
        f"{file} is a link that leads out of {folder}: DVC would not see it change; put the file "
        "itself there"
    )


@pytest.mark.parametrize("wanted", ["auto", "named"])
@pytest.mark.parametrize("leads", ["nowhere", "itself"])
@pytest.mark.parametrize("name", LINKED)
def test_a_broken_link_is_told(tmp_path: Path, name: str, leads: str, wanted: str) -> None:
    folder, _ = sources(tmp_path, name)
    file = folder / LINKED[name]
    file.unlink()
    file.symlink_to(file if leads == "itself" else "nowhere")
    with pytest.raises(DataError) as error:
        read(folder, format="auto" if wanted == "auto" else FORMATS[name][0])
    assert str(file.parent) in str(error.value)
    if name != "save_to_disk":
        assert str(error.value) == (
            f"{file} is a link that leads to no file: put the file itself there"
        )


def test_a_captions_file_may_be_named_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FORMATS["csv"][1](tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    source, (rows, _) = read(Path(tmp_path.name), captions=str(tmp_path / "c.csv"))
    assert source.files == [Path(tmp_path.name) / "c.csv"]
    assert len(rows) == 3


def test_links_that_lead_round_are_no_harm(tmp_path: Path) -> None:
    class_folder(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "star" / "up").symlink_to(tmp_path)
    assert len(read(tmp_path)[1].rows) == 2


def test_state_is_not_read_through_a_link(tmp_path: Path) -> None:
    folder, outside = sources(tmp_path, "save_to_disk")
    shutil.move(folder / "state.json", outside / "state.json")
    (folder / "state.json").symlink_to(outside / "state.json")
    with pytest.raises(DataError, match=r"state\.json is a link that leads out"):
        read(folder)


@pytest.mark.parametrize("name", LINKED)
def test_a_link_within_the_source_is_read_once(tmp_path: Path, name: str) -> None:
    folder, _ = sources(tmp_path, name)
    file = folder / LINKED[name]
    whole = len(read(folder)[1].rows)
    shutil.move(file, folder / ".kept")
    file.symlink_to(folder / ".kept")
    assert len(read(folder)[1].rows) == whole
    if name in ("shards", "compressed", "parquet_images"):
        (folder / f"again.{file.name}").symlink_to(file)
        (folder / ".kept").replace(file)
        assert len(read(folder)[1].rows) == whole


def class_folder(folder: Path) -> None:
    for name, label in LABELS.items():
        (folder / label).mkdir()
        (folder / label / f"{name}.jpg").write_bytes(picture(name))


IGNORED = ("notes.txt", "meta.json", ".hidden.heic", "Thumbs.db", ".DS_Store", "film.mp4")


@pytest.mark.parametrize("suffix", sorted(rows_of.UNREAD_SUFFIXES))
def test_an_image_that_is_not_read_has_a_suffix_of_its_own(suffix: str) -> None:
    assert not rows_of.is_image(f"a{suffix}")
    assert rows_of.is_unread(f"a{suffix.upper()}")


def test_class_folders_tell_images_that_are_not_read(tmp_path: Path) -> None:
    class_folder(tmp_path)
    for name in ("x.HEIC", "y.avif", "z.jxl", *IGNORED):
        (tmp_path / "star" / name).write_bytes(b"")
    _, (rows, bad) = read(tmp_path)
    assert rows["label"].tolist() == ["disc", "star"]
    assert bad["value"].tolist() == [
        "star/x.HEIC: .heic images are not read: convert them to JPEG or PNG",
        "star/y.avif: .avif images are not read: convert them to JPEG or PNG",
        "star/z.jxl: .jxl images are not read: convert them to JPEG or PNG",
    ]
    assert bad["source_row"].tolist() == [3, 4, 5]


def test_sidecar_folders_tell_them_too(tmp_path: Path) -> None:
    FORMATS["sidecar"][1](tmp_path)
    for name in ("x.heic", "x.txt", "lone.txt"):
        (tmp_path / name).write_text("a caption")
    for name in ("meta.json", ".hidden.heic", "Thumbs.db", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    _, (rows, bad) = read(tmp_path)
    assert len(rows) == 3
    assert bad["value"].tolist() == [
        "x.heic: .heic images are not read: convert them to JPEG or PNG",
        "lone.txt has no image beside it",
    ]


@pytest.mark.parametrize("beside", [False, True])
def test_folders_of_such_images_alone_say_so(tmp_path: Path, beside: bool) -> None:
    (tmp_path / "star").mkdir()
    (tmp_path / "star" / "a.heic").write_bytes(b"")
    if beside:
        (tmp_path / "star" / "a.txt").write_text("one")
    source, (rows, bad) = read(tmp_path)
    assert source.format == ("sidecar" if beside else "class_folders")
    assert (len(rows), len(bad)) == (0, 1)


ODD: dict[str, Callable[[str], str]] = {
    "digits": lambda text: text.replace('"star"', "9" * 6000),
    "deep": lambda text: text.replace('"star"', "[" * 100_000),
    "deep and closed": lambda text: text.replace('"star"', "[" * 980 + "]" * 980),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_line_of_json_that_python_refuses_is_a_bad_row(tmp_path: Path, odd: str) -> None:
    lines = [json.dumps({"image": f"{n}.jpg", "caption": n, "label": LABELS[n]}) for n in LABELS]
    (tmp_path / "c.jsonl").write_text("\n".join([ODD[odd](lines[0]), lines[1]]))
    _, (rows, bad) = read(tmp_path)
    assert rows["caption"].tolist()[-1] == "b"
    assert len(rows) + len(bad) == 2


@pytest.mark.parametrize("depth", range(100, 1001, 25))
def test_a_cell_nested_to_any_depth_is_a_text_or_a_bad_row(tmp_path: Path, depth: int) -> None:
    cell = "[" * depth + "]" * depth
    line = f'{{"image": "a.jpg", "caption": "a", "label": {cell}}}'
    (tmp_path / "c.jsonl").write_text(line)
    _, (rows, bad) = read(tmp_path)
    assert len(rows) + len(bad) == 1
