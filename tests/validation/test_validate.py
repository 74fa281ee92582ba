import hashlib
import json
import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.artifacts import read_json, sha256_of
from pipeline.data.images import open_image
from pipeline.data.pairs import IMAGE, IMAGES_FILE, PAIR, read_pairs, read_rejected
from pipeline.data.places import places_of
from pipeline.data.sources import batches
from pipeline.params import Threshold
from pipeline.validation import validate as validate_of
from tests.conftest import draw
from tests.validation.validating import LIMIT, QUALITY, count_tokens, embedded, read_table, run

ROOT = Path(__file__).parents[2]


def spoil(source):
    """Each way in which a row can fail, a row each; the reason and the value it must get."""
    rows = read_table(source)
    rows["split"] = "train"
    images = source / "images"
    whole = (images / "00.jpg").read_bytes()
    (images / "00.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "01.jpg").write_bytes(b"no image at all")
    (images / "02.jpg").write_bytes(b"")
    Image.new("F", (40, 40)).save(images / "03.tif")
    draw(images / "04.jpg", (9, 9, 9), size=(40, 15))
    draw(images / "05.jpg", (9, 9, 9), size=(200, 16))
    Image.new("L", (300, 300)).save(images / "06.png")
    Image.new("L", (40, 40)).save(images / "07.bmp")
    names = {3: "03.tif", 6: "06.png", 7: "07.bmp", 8: "none.jpg", 9: "../../secret.jpg"}
    for row, name in names.items():
        rows.loc[row, "image"] = f"images/{name}"
    rows.loc[10, "image"] = None
    rows.loc[11, "caption"] = " \t "
    rows.loc[12, "caption"] = "long " * 1001
    rows.loc[13, "split"] = None
    rows.loc[14, "split"] = "fold1"
    rows.to_csv(source / "captions.csv", index=False)
    with (source / "captions.csv").open("a") as file:
        file.write("images/15.jpg,too,many,fields,here\n")
    with (images / "07.bmp").open("ab") as file:
        file.write(bytes(1_000_000))
    return {
        1: ("image_truncated", None),
        2: ("image_unreadable", None),
        3: ("image_empty", "images/02.jpg"),
        4: ("image_mode_unsupported", "mode F"),
        5: ("image_too_small", "40x15"),
        6: ("image_too_narrow", "200x16"),
        7: ("image_too_many_pixels", "90000 pixels"),
        8: ("image_too_many_bytes", f"{(images / '07.bmp').stat().st_size} bytes"),
        9: ("image_missing", "images/none.jpg"),
        10: ("image_outside_root", "images/../../secret.jpg"),
        11: ("image_not_given", None),
        12: ("caption_empty", None),
        13: ("caption_too_many_chars", "5005 characters"),
        14: ("split_not_given", None),
        15: ("split_unknown", "fold1"),
        17: ("row_malformed", None),
    }


def test_each_reason_rejects_its_row_and_names_what_offends(pictures, out, defaults):
    expected = spoil(pictures)
    found = run(
        pictures, out, defaults,
        data={"columns": defaults.data.columns.model_copy(update={"split": "split"})},
        limits={"max_pixels": 80_000, "max_bytes": 1_000_000},
        table={"rejected": Threshold(warn=None, stop=None)},
    )  # fmt: skip
    rejected = read_rejected(out / "valid")
    assert dict(zip(rejected.source_row, rejected.reason, strict=True)) == {
        row: reason for row, (reason, _) in expected.items()
    }
    values = dict(zip(rejected.source_row, rejected.value, strict=True))
    for row, (reason, value) in expected.items():
        if value is not None:
            assert values[row] == value, reason
    assert values[17] == "5 fields, the header has 4"
    assert rejected.value[rejected.source_row.isin([11, 12, 14])].isna().all()
    assert (found["read"], found["accepted"]) == (17, 1)
    assert found["rejected"] == dict.fromkeys(sorted(r for r, _ in expected.values()), 1)
    assert read_pairs(out / "valid").source_row.tolist() == [16]


def test_accepted_rows_and_their_images(pictures, out, defaults):
    rows = read_table(pictures)
    rows.loc[1, "image"] = rows.loc[0, "image"]
    (pictures / "images" / "copy.jpg").write_bytes((pictures / "images" / "00.jpg").read_bytes())
    rows.loc[2, "image"] = "images/copy.jpg"
    rows.to_csv(pictures / "captions.csv", index=False)
    found = run(pictures, out, defaults)
    pairs = read_pairs(out / "valid")
    assert pq.read_schema(out / "valid" / "pairs.parquet").equals(PAIR)
    assert pairs.pair.tolist() == pairs.source_row.tolist() == list(range(1, 17))
    assert pairs.image_id[3] == sha256_of(pictures / "images" / "03.jpg")
    assert pairs.image_id[0] == pairs.image_id[1] == pairs.image_id[2]
    assert (pairs.width[3], pairs.height[3]) == (51, 40)
    assert not pairs.packed.any()
    assert pairs.image_group.isna().all()
    table = pq.read_table(out / "valid" / IMAGES_FILE)
    assert table.schema.equals(IMAGE)
    images = table.to_pandas()
    assert images.image_id.tolist() == pairs.image_id.unique().tolist()  # 14, as first seen
    assert found["images"] == 14
    assert set(images.format) == {"JPEG"}
    assert images.brightness[0] == pytest.approx(85, abs=10)  # red: (200, 30, 30)


def test_validation_is_quiet_where_messages_are_shown(pictures, out, defaults, caplog):
    caplog.set_level(logging.INFO)
    run(pictures, out, defaults)
    assert [record.getMessage() for record in caplog.records] == []


def test_the_metrics_count_tokens_words_and_checks(pictures, out, defaults):
    rows = read_table(pictures)
    rows.loc[0, "caption"] = "seven words are nine tokens with ends"
    rows.to_csv(pictures / "captions.csv", index=False)
    found = run(pictures, out, defaults, table={"truncated": Threshold(warn=0.05, stop=None)})
    assert found["tokens"] == {"limit": LIMIT, "p50": 7, "p99": 9, "truncated_share": 1 / 16}
    assert found["words"] == {"p50": 5, "p99": 7}
    assert found["warned"] == ["truncated"]
    # Pairs left, rejected, short, long, repeated, elsewhere, most frequent and unlabelled; there is
    # no split and no drift.
    assert found["checks"] == {"met": 8, "measured": 0, "warned": 1}
    assert found["drift"]["status"] == "none"


def test_words_are_counted_as_clean_counts_them(pictures, out, defaults):
    """Chinese sets no spaces, and a lone mark is no word."""
    rows = read_table(pictures)
    rows["caption"] = ["黑猫坐在沙发上", "a - b"] * 8
    rows.to_csv(pictures / "captions.csv", index=False)
    found = run(pictures, out, defaults)
    assert found["words"] == {"p50": 2, "p99": 4}
    checks = {c["name"]: c for c in read_json(out / "quality" / "checks.json")}
    assert checks["short_captions"]["count"] == 8


def test_many_batches_find_what_one_finds(pictures, out, defaults, monkeypatch):
    spoil(pictures)
    arguments = {"table": {"rejected": Threshold(warn=None, stop=None)}}
    whole = run(pictures, out / "whole", defaults, **arguments)
    monkeypatch.setattr(batches, "MAX_ROWS", 1)
    monkeypatch.setattr(validate_of, "CHECKED", 4)
    parts = run(pictures, out / "parts", defaults, **arguments)
    assert parts == whole
    groups = pq.ParquetFile(out / "parts" / "valid" / "rejected.parquet").num_row_groups
    assert groups == 5  # 17 rows, four at a time, of each four at least one
    for name in ("pairs", "images", "rejected"):
        one, other = (
            pq.read_table(out / kind / "valid" / f"{name}.parquet") for kind in ("whole", "parts")
        )
        assert one.equals(other), name
    for name in QUALITY:
        assert sha256_of(out / "whole/quality" / name) == sha256_of(out / "parts/quality" / name)


def test_embedded_images_are_packed_once_and_can_be_read(pictures, out, defaults):
    contents = embedded(out / "source", pictures)
    found = run(out / "source", out, defaults)
    assert (found["read"], found["accepted"], found["images"]) == (6, 5, 4)
    assert found["rejected"] == {"image_unreadable": 1}
    pairs = read_pairs(out / "valid")
    assert pairs.packed.all()
    assert pairs.image_id.tolist() == [hashlib.sha256(c).hexdigest() for c in contents[:5]]
    places = places_of(pairs, source=out / "source", packed=out / "images")
    assert [places[image_id].read() for image_id in pairs.image_id] == contents[:5]
    assert open_image(places[pairs.image_id[2]]).size == (49, 40)
    assert read_json(out / "images" / "index.json") == {
        "images": 5,
        "files": ["images-00000.tar"],
    }


def test_an_embedded_image_above_the_limit_is_not_packed(pictures, out, defaults):
    contents = embedded(out / "source", pictures)
    limit = len(contents[0])
    large = [row for row, content in enumerate(contents, start=1) if len(content) > limit]
    assert large
    run(
        out / "source", out, defaults,
        limits={"max_bytes": limit}, table={"rejected": Threshold(warn=None, stop=None)},
    )  # fmt: skip
    rejected = read_rejected(out / "valid").set_index("source_row")
    for row in large:
        assert rejected.reason[row] == "image_too_many_bytes"
        assert rejected.value[row] == f"{len(contents[row - 1])} bytes"
    assert read_json(out / "images" / "index.json")["images"] == 5 - len(large)


def test_images_are_packed_into_an_index_even_where_there_are_none(pictures, out, defaults):
    run(pictures, out, defaults)
    assert read_json(out / "images" / "index.json") == {"images": 0, "files": []}


def test_image_paths_start_from_the_source(pictures, out, defaults):
    rows = read_table(pictures)
    rows["image"] = rows["image"].str.removeprefix("images/")
    rows.to_csv(pictures / "captions.csv", index=False)
    run(pictures, out, defaults, data={"image_root": "images"})
    pairs = read_pairs(out / "valid")
    assert pairs.image[0] == pairs.file[0] == "images/00.jpg"


def test_each_caption_is_tokenized_once_a_batch_and_only_if_accepted(pictures, out, defaults):
    rows = read_table(pictures)
    rows["caption"] = ["same", "same", *rows["caption"][2:]]
    rows.loc[2, "caption"] = "long " * 1001
    rows.to_csv(pictures / "captions.csv", index=False)
    asked = []

    def count(captions):
        asked.extend(captions)
        return count_tokens(captions)

    run(pictures, out, defaults, count_tokens=count)
    assert asked.count("same") == 1
    assert len(asked) == 14


def test_the_files_of_quality(pictures, out, defaults):
    spoil(pictures)
    found = run(pictures, out, defaults, table={"rejected": Threshold(warn=None, stop=None)})
    assert sorted(file.name for file in (out / "quality").iterdir()) == sorted(QUALITY)
    source = read_json(out / "quality" / "source.json")
    assert source["format"] == "table"
    assert source["files"] == 1
    assert source["columns"]["image"] == "image"
    checks = read_json(out / "quality" / "checks.json")
    rows = [check for check in checks if check["level"] == "row"]
    assert sum(check["count"] for check in rows) == sum(found["rejected"].values())
    image = next(check for check in rows if check["name"] == "image_problem")
    assert image["examples"][2] == {"source_row": 3, "value": "images/02.jpg"}
    text = (out / "quality" / "data_docs.html").read_text()
    assert str(out) not in text + json.dumps(checks)
