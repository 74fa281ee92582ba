"""The sample data set: the same bytes each time, and as broken as its list of defects says."""

import csv
import html
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, UnidentifiedImageError

from pipeline.artifacts import sha256_of
from samples.params import ScenesParams
from samples.scenes.damage import BROKEN, COPIES, HUGE
from samples.scenes.dirt import DIRT
from samples.scenes.make import make
from samples.scenes.words import PLURALS, SHAPE_SYNONYMS, SLICES

PARAMS = ScenesParams(seed=0, images=320, dirty_captions=5, broken_files=4, copies=8)
COLUMNS = ["image", "caption", "label"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    make(PARAMS, folder / "out", folder / "truth.csv", processes=1)
    return folder


@pytest.fixture(scope="module")
def rows(made: Path) -> pd.DataFrame:
    """Each row of captions.csv beside the truth about it; "" where nothing was planted."""
    captions = pd.read_csv(made / "out" / "captions.csv", keep_default_na=False)
    assert list(captions.columns) == COLUMNS
    captions["source_row"] = range(1, len(captions) + 1)
    truth = pd.read_csv(made / "truth.csv", keep_default_na=False)
    assert truth.source_row.is_unique
    merged = captions.merge(truth, on="source_row", how="left", suffixes=("", "_of_truth"))
    planted = merged.defect.notna()
    assert (merged.image == merged.image_of_truth)[planted].all()
    return merged.fillna("")


def planted(rows: pd.DataFrame, defect: str) -> pd.DataFrame:
    """Rows with a defect; a test on none of them could not fail."""
    found = rows[rows.defect == defect]
    assert len(found) > 0
    return found


def picture(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        opened.load()
        return opened.copy()


def test_processes_do_not_change_a_byte(made: Path, tmp_path: Path) -> None:
    make(PARAMS, tmp_path / "out", tmp_path / "truth.csv", processes=2)
    assert len(list((tmp_path / "out" / "images").iterdir())) == PARAMS.images - PARAMS.broken_files
    assert sha256_of(tmp_path) == sha256_of(made)


def test_another_seed_is_another_set(made: Path, tmp_path: Path) -> None:
    few = ScenesParams(seed=1, images=8, dirty_captions=0, broken_files=0, copies=0)
    make(few, tmp_path / "out", tmp_path / "truth.csv", processes=1)
    ours = {sha256_of(file) for file in (made / "out" / "images").iterdir()}
    assert not ours & {sha256_of(file) for file in (tmp_path / "out" / "images").iterdir()}


def test_as_many_defects_as_asked_for(rows: pd.DataFrame) -> None:
    by_row = Counter(rows.defect)
    by_image = Counter(rows.drop_duplicates("image").defect)
    text = [*DIRT, "wrong_caption", "repeated_caption"]
    assert {kind: by_row[kind] for kind in text} == dict.fromkeys(text, 5)
    assert {kind: by_image[kind] for kind in BROKEN} == dict.fromkeys(BROKEN, 4)
    assert {kind: by_image[kind] for kind in COPIES} == dict.fromkeys(COPIES, 8)
    assert set(by_row) == {"", *text, *BROKEN, *COPIES}


def test_rows_without_a_file_defect_decode(made: Path, rows: pd.DataFrame) -> None:
    sound = rows[~rows.defect.isin(BROKEN)].image.unique()
    assert len(sound) == PARAMS.images - len(BROKEN) * PARAMS.broken_files
    sizes = set()
    for image in sound:
        with Image.open(made / "out" / image) as opened:
            assert opened.format == "JPEG"
            opened.load()
            sizes.add(opened.size)
    assert any(width != height for width, height in sizes)


def test_truncated_files_open_and_then_fail(made: Path, rows: pd.DataFrame) -> None:
    for image in planted(rows, "truncated_jpeg").image:
        with Image.open(made / "out" / image) as opened:
            assert min(opened.size) >= 128
            with pytest.raises(OSError, match="truncated"):
                opened.load()


def test_files_that_are_no_pictures(made: Path, rows: pd.DataFrame) -> None:
    root = made / "out"
    assert {(root / image).stat().st_size for image in planted(rows, "zero_bytes").image} == {0}
    assert not any((root / image).exists() for image in planted(rows, "missing_file").image)
    for image in planted(rows, "text_as_jpg").image:
        assert (root / image).read_text().startswith("<!DOCTYPE html>")
        with pytest.raises(UnidentifiedImageError):
            Image.open(root / image)


def test_odd_pictures(made: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made / "out"
    assert {picture(root / i).size for i in planted(rows, "one_pixel").image} == {(1, 1)}
    for image in planted(rows, "png_as_jpg").image:
        assert (root / image).read_bytes().startswith(b"\x89PNG")
        assert min(picture(root / image).size) >= 128
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # so that the header can be read at all
    for image in planted(rows, "huge_dimensions").image:
        assert (root / image).stat().st_size < 100_000
        with Image.open(root / image) as opened:
            assert opened.size == (HUGE, HUGE) == (60_000, 60_000)


def test_exact_copies_have_equal_bytes(made: Path, rows: pd.DataFrame) -> None:
    root = made / "out"
    clean = rows.detail.where(rows.defect.isin(DIRT), rows.caption)
    told = clean.groupby(rows.image).agg(set)
    for row in planted(rows, "exact_copy").itertuples():
        assert row.image != row.of
        assert (root / row.image).read_bytes() == (root / row.of).read_bytes()
        if row.detail == "other caption":
            assert row.caption not in told[row.of]
    assert {*planted(rows, "exact_copy").detail} == {"same caption", "other caption"}


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of two pictures at 24 × 24 grey pixels."""
    grey = [np.asarray(p.convert("L").resize((24, 24)), dtype=float).ravel() for p in (one, other)]
    return float(np.corrcoef(grey)[0, 1])


@pytest.mark.parametrize("kind", [kind for kind in COPIES if kind != "exact_copy"])
def test_near_copies_look_like_their_originals(made: Path, rows: pd.DataFrame, kind: str) -> None:
    root = made / "out"
    for row in planted(rows, kind).itertuples():
        assert (root / row.image).read_bytes() != (root / row.of).read_bytes()
        copy, original = picture(root / row.image), picture(root / row.of)
        assert likeness(copy, original) > 0.8
        shrunk = copy.width * copy.height / (original.width * original.height)
        if kind == "cropped_copy":
            assert 0.95**2 - 0.01 < shrunk < 1
        elif kind != "rescaled_copy":
            assert copy.size == original.size


def test_copies_carry_the_label_of_their_original(rows: pd.DataFrame) -> None:
    label = rows.drop_duplicates("image").set_index("image").label
    copies = rows[rows.defect.isin(COPIES)]
    assert (copies.label == copies.of.map(label)).all()


def test_dirt_can_be_taken_off_again(rows: pd.DataFrame) -> None:
    """`detail` is what the caption was, by each kind's own inverse."""
    assert {*planted(rows, "empty_caption").caption.str.strip()} == {""}
    for row in planted(rows, "mojibake").itertuples():
        assert row.caption.encode("cp1252").decode("utf-8") == row.detail != row.caption
    for row in planted(rows, "html_entities").itertuples():
        assert html.unescape(row.caption).replace("\xa0", " ") == row.detail != row.caption
    for row in planted(rows, "html_tags").itertuples():
        marked = pd.Series([row.caption]).str.replace(r"<[^>]+>", "", regex=True)[0]
        assert marked == row.detail != row.caption
    for kind in ("url", "email", "hashtags", "boilerplate"):
        sign = {"url": ".", "email": "@", "hashtags": "#", "boilerplate": "click to enlarge"}[kind]
        for row in planted(rows, kind).itertuples():
            assert sign in row.caption.replace(row.detail, "")


def test_long_captions_pass_any_context(rows: pd.DataFrame) -> None:
    assert planted(rows, "long_caption").caption.str.split().str.len().min() >= 78


def test_repeated_captions_repeat_a_row_above(rows: pd.DataFrame) -> None:
    for row in planted(rows, "repeated_caption").itertuples():
        above = rows[(rows.source_row < row.source_row) & (rows.image == row.image)]
        assert row.caption in set(above.caption)


def test_nothing_repeats_that_was_not_planted(rows: pd.DataFrame) -> None:
    sound = rows[rows.defect == ""]
    assert not sound.duplicated(["image", "caption"]).any()


def test_wrong_captions_tell_of_another_class(rows: pd.DataFrame) -> None:
    label = rows.drop_duplicates("image").set_index("image").label
    for row in planted(rows, "wrong_caption").itertuples():
        assert not set(row.label.split()) & set(label[row.of].split())


def test_captions_name_the_shape(rows: pd.DataFrame) -> None:
    for row in rows[rows.defect == ""].itertuples():
        shape = row.label.split()[1]
        names = [shape, PLURALS[shape], *SHAPE_SYNONYMS.get(shape, ())]
        assert any(name in row.caption.lower() for name in names), row.caption


def test_captions_file_is_plain_csv(made: Path) -> None:
    content = (made / "out" / "captions.csv").read_bytes()
    assert b"\r" not in content
    table = list(csv.reader(io.StringIO(content.decode("utf-8"))))
    assert {len(row) for row in table} == {3}


@pytest.mark.parametrize("part", ["colours", "shapes", "materials", "backgrounds", "phrasings"])
def test_slices_overlap_only_in_part(part: str) -> None:
    base, sample = (set(getattr(SLICES[name], part)) for name in ("base", "sample"))
    assert base & sample
    assert base - sample
    assert sample - base
