import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.doctor import source
from pipeline.doctor.findings import Look
from pipeline.doctor.seen import Sample
from pipeline.doctor.settings import Settings
from tests.doctor.cases import with_

COUNT = 12


def picture(number: int) -> bytes:
    """A noisy JPEG, 48 pixels high and at least as wide."""
    stream = io.BytesIO()
    Image.effect_noise((48 + number, 48), 60).save(stream, "jpeg")
    return stream.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def a_table(root: Path) -> None:
    lines = ["image,caption,label"]
    for i in range(COUNT):
        write(root / f"images/{i}.jpg", picture(i))
        lines += [f"images/{i}.jpg,a red square number {i},red"]
    write(root / "captions.csv", "\n".join(lines).encode())


def a_parquet_table(root: Path) -> None:
    a_table(root)
    pd.read_csv(root / "captions.csv").to_parquet(root / "captions.parquet")
    (root / "captions.csv").unlink()


def a_coco(root: Path) -> None:
    for i in range(COUNT):
        write(root / f"{i}.jpg", picture(i))
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(COUNT)]
    notes = [{"id": i, "image_id": i, "caption": f"a red square number {i}"} for i in range(COUNT)]
    write(root / "captions.json", json.dumps({"images": images, "annotations": notes}).encode())


def class_folders(root: Path) -> None:
    for i in range(COUNT):
        write(root / ("red" if i % 2 else "blue") / f"{i}.jpg", picture(i))


def sidecars(root: Path) -> None:
    for i in range(COUNT):
        write(root / f"{i}.jpg", picture(i))
        write(root / f"{i}.txt", f"a red square number {i}\n".encode())


def shards(root: Path) -> None:
    root.mkdir(exist_ok=True)
    with tarfile.open(root / "00000.tar", "w") as tar:
        for i in range(COUNT):
            for suffix, content in (("jpg", picture(i)), ("txt", b"a red square number one")):
                member = tarfile.TarInfo(f"{i:05}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def parquet_images(root: Path) -> None:
    rows = [
        {"image": {"bytes": picture(i), "path": f"{i}.jpg"}, "text": "a red square number one"}
        for i in range(COUNT)
    ]
    root.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "train-00000-of-00001.parquet")


MAKERS: dict[str, Callable[[Path], None]] = {
    "table": a_table,
    "coco": a_coco,
    "class_folders": class_folders,
    "sidecar": sidecars,
    "shards": shards,
    "parquet_images": parquet_images,
}


def look(settings: Settings, folder: Path, **data: object) -> tuple[Sample | None, Look]:
    chosen = with_(settings, "data", source=str(folder), **data)
    assert chosen.data is not None
    return source.look(chosen.data, chosen.limits, chosen.clean, chosen.evaluate)


def facts(found: Look) -> dict[str, str]:
    return {fact.name: fact.text for fact in found.facts}


@pytest.mark.parametrize("form", list(MAKERS))
def test_every_format_is_known_and_counted(settings: Settings, tmp_path: Path, form: str) -> None:
    MAKERS[form](tmp_path / "set")
    sample, found = look(settings, tmp_path / "set")
    assert found.findings == []
    assert sample is not None
    assert (sample.format, sample.rows, sample.pairs, sample.images) == (form, 12, 12, 12)
    assert (sample.exact, sample.whole, sample.side, sample.bad) == (True, True, 48, {})
    assert sample.embedded == (form == "parquet_images")
    told = facts(found)
    assert told["format"] == form
    assert told["pictures"] == "12 of 12 looked at are fine"
    assert told["shorter side"] == "48 to 48 pixels, half of them below 48"


def test_a_wrong_image_root_is_recognised(settings: Settings, tmp_path: Path) -> None:
    a_table(tmp_path)
    text = (tmp_path / "captions.csv").read_text().replace("images/", "")
    (tmp_path / "captions.csv").write_text(text)
    _, found = look(settings, tmp_path)
    (finding,) = found.findings
    assert finding.level == "stops"
    assert finding.key == "data.image_root"
    assert finding.problem == (
        "12 of 12 pictures looked at: image_missing; the first, 0.jpg, lies at images/0.jpg"
    )
    assert finding.remedy == "data.image_root: images"
    assert look(settings, tmp_path, image_root="images")[1].findings == []


@pytest.mark.parametrize(("most", "level"), [(source.ROWS, "stops"), (COUNT // 2, "hurts")])
def test_a_mistyped_column_of_slices_is_told_before_training(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, level: str
) -> None:
    """A row that was not read may have it."""
    monkeypatch.setattr(source, "ROWS", most)
    a_table(tmp_path)
    chosen = with_(settings, "evaluate", slices={"columns": ["label", "lable"], "least": 10})
    _, found = look(chosen, tmp_path)
    (finding,) = found.findings
    assert (finding.level, finding.key, finding.value) == (
        level,
        "evaluate.slices.columns",
        "lable",
    )
    assert "there are 'image', 'caption', 'label'" in finding.problem


@pytest.mark.parametrize(("broken", "level"), [(1, "note"), (4, "hurts"), (8, "stops")])
def test_bad_pictures_are_as_bad_as_they_are_many(
    settings: Settings, tmp_path: Path, broken: int, level: str
) -> None:
    """Of 12, by `validate.table.rejected`: above a tenth is told, above half stops."""
    a_table(tmp_path)
    for i in range(broken):
        (tmp_path / f"images/{i}.jpg").write_bytes(b"no picture")
    sample, found = look(settings, tmp_path)
    (finding,) = found.findings
    assert (finding.level, finding.key) == (level, "data.source")
    assert finding.problem.startswith(f"{broken} of 12 pictures looked at: image_unreadable")
    assert sample is not None
    assert sample.bad == {"image_unreadable": broken}


def test_limits_below_the_usual_picture_are_told(settings: Settings, tmp_path: Path) -> None:
    a_table(tmp_path)
    chosen = with_(settings, "limits", max_pixels=1000)
    _, found = look(chosen, tmp_path)
    (finding,) = found.findings
    assert (finding.level, finding.key, finding.value) == ("stops", "validate.max_pixels", 1000)


@pytest.mark.parametrize(
    ("clean", "level"), [({"min_words": 6}, "stops"), ({"max_words": 4}, "stops"), ({}, None)]
)
def test_word_limits_that_no_caption_meets(
    settings: Settings, tmp_path: Path, clean: dict[str, int], level: str | None
) -> None:
    a_table(tmp_path)
    _, found = look(with_(settings, "clean", **clean), tmp_path)
    assert [f.level for f in found.findings] == ([level] if level else [])
    assert [f.key for f in found.findings] == [f"clean.{key}" for key in clean]


def test_words_are_counted_as_clean_counts_them(settings: Settings, tmp_path: Path) -> None:
    """A text in Han has many words and no space."""
    a_table(tmp_path)
    table = tmp_path / "captions.csv"
    table.write_text(table.read_text().replace("a red square number ", "桌上有一颗红色的星星"))
    _, found = look(with_(settings, "clean", min_words=5, max_words=10), tmp_path)
    assert found.findings == []


def test_a_column_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    a_table(tmp_path)
    columns = {"image": "image", "caption": "text", "label": None, "group": None, "split": None}
    sample, found = look(settings, tmp_path, columns=columns)
    assert sample is None
    (finding,) = found.findings
    assert (finding.level, finding.key) == ("stops", "data.columns.caption")
    assert "text" in finding.problem


def test_a_parquet_table_is_counted_without_being_read(settings: Settings, tmp_path: Path) -> None:
    rows = 60_000
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(rows)], "caption": "a red square"})
    frame.to_parquet(tmp_path / "captions.parquet")
    sample, found = look(settings, tmp_path)
    assert sample is not None
    assert (sample.rows, sample.exact, sample.whole) == (rows, True, False)
    assert facts(found)["rows"] == "60,000"
    assert facts(found)["captions"] == "about 60,000, 1 a picture"


def test_a_large_table_is_estimated(settings: Settings, tmp_path: Path) -> None:
    lines = [f"{i % 1000}.jpg,a red square with number {i % 7}" for i in range(200_000)]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *lines]))
    sample, found = look(settings, tmp_path)
    assert sample is not None
    assert sample.rows == pytest.approx(200_000, rel=0.01)
    assert (sample.exact, sample.whole) == (False, False)
    assert facts(found)["rows"] == "about 200,000"


def test_a_file_of_which_no_row_parses_says_why(settings: Settings, tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption\n1.jpg,café\n".encode("latin-1"))
    _, found = look(settings, tmp_path)
    (finding,) = found.findings
    assert finding.level == "stops"
    assert "the first, row 1: not UTF-8" in finding.problem
