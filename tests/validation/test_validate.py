from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.artifacts import sha256_of
from pipeline.data.pairs import read_pairs, read_rejected
from pipeline.errors import DataError
from pipeline.params import Params
from pipeline.validation.expectations import suite
from pipeline.validation.report import check
from pipeline.validation.validate import validate


def run(source: Path, out: Path, defaults: Params, **limits: Any) -> dict[str, Any]:
    data = defaults.data.model_copy(update={"source": str(source)})
    return validate(data, defaults.limits.model_copy(update=limits), out)


def spoil(source: Path) -> None:
    """One row each: a truncated image, a missing one, none, no caption, a long one; a bad line."""
    rows = pd.read_csv(source / "captions.csv", dtype=object)
    whole = (source / rows.image[0]).read_bytes()
    (source / rows.image[0]).write_bytes(whole[: len(whole) // 2])
    rows.loc[1, "image"] = "images/none.jpg"
    rows.loc[2, "image"] = None
    rows.loc[3, "caption"] = "  "
    rows.loc[4, "caption"] = "long " * 1001
    rows.to_csv(source / "captions.csv", index=False)
    with (source / "captions.csv").open("a") as file:
        file.write("images/05.jpg,too,many,fields\n")


def test_each_rejected_row_has_its_reason_and_value(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, defaults: Params
) -> None:
    out = tmp_path_factory.mktemp("out") / "valid"
    spoil(pictures)
    found = run(pictures, out, defaults)
    assert found == {
        "read": 17,
        "accepted": 11,
        "rejected": {
            "caption_empty": 1,
            "caption_too_many_chars": 1,
            "image_missing": 1,
            "image_not_given": 1,
            "image_truncated": 1,
            "row_malformed": 1,
        },
        "images": 11,
    }
    rejected = read_rejected(out).set_index("source_row")
    assert rejected.reason[2] == "image_missing"
    assert rejected.value[2] == "images/none.jpg"
    assert rejected.value[17] == "4 fields, the header has 3"
    pairs = read_pairs(out)
    assert pairs.source_row.tolist() == list(range(6, 17))
    assert pairs.image_id[0] == sha256_of(pictures / "images" / "05.jpg")


def test_too_many_rejected_rows_stop_with_examples(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, defaults: Params
) -> None:
    out = tmp_path_factory.mktemp("out") / "valid"
    spoil(pictures)
    with pytest.raises(DataError) as error:
        run(pictures, out, defaults, max_rejected=0.1)
    assert "35% of the rows are rejected, validate.max_rejected is 0.1" in str(error.value)
    assert "row 1: image_truncated" in str(error.value)
    assert not out.exists()


def test_an_expectation_about_the_table_stops_with_what_was_seen(defaults: Params) -> None:
    table = pd.DataFrame(
        {"source_row": [1, 1], "image": "a.jpg", "caption": "a", "image_problem": None,
         "image_value": None}
    )  # fmt: skip
    with pytest.raises(DataError, match=r"expect_column_values_to_be_unique.*observed \[1, 1\]"):
        check(table, suite(defaults.limits, defaults.data.columns))


def test_image_paths_start_from_the_source(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, defaults: Params
) -> None:
    out = tmp_path_factory.mktemp("out") / "valid"
    rows = pd.read_csv(pictures / "captions.csv")
    rows["image"] = rows["image"].str.removeprefix("images/")
    rows.to_csv(pictures / "captions.csv", index=False)
    data = defaults.data.model_copy(update={"source": str(pictures), "image_root": "images"})
    validate(data, defaults.limits, out)
    assert read_pairs(out).image[0] == "images/00.jpg"
