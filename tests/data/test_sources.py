import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.sources import Source, read_source
from pipeline.errors import ConfigError, DataError
from pipeline.params import Columns, DataParams

COLUMNS = Columns(image="image", caption="caption", label="label", group=None, split=None)
ROWS = [
    {"image": "a.jpg", "caption": "a red star, big", "label": "star"},
    {"image": "b.jpg", "caption": 'a "blue" disc', "label": None},
    {"image": "a.jpg", "caption": "ein großer Stern ★", "label": "star"},
]


def read(folder: Path, **changes: object) -> Source:
    values = {"source": str(folder), "captions": "auto", "image_root": ".", "columns": COLUMNS}
    return read_source(DataParams(**{**values, **changes}))  # type: ignore[arg-type]


def write(folder: Path, suffix: str) -> None:
    frame = pd.DataFrame(ROWS)
    file = folder / f"captions{suffix}"
    if suffix == ".jsonl":
        file.write_text("\n".join(json.dumps(row) for row in ROWS))
    elif suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, suffix)
    rows = read(tmp_path).rows
    assert rows.source_row.tolist() == [1, 2, 3]
    assert rows.image.tolist() == ["a.jpg", "b.jpg", "a.jpg"]
    assert rows.caption.tolist() == [row["caption"] for row in ROWS]
    assert rows.label.tolist() == ["star", None, "star"]
    assert rows["group"].isna().all()


def test_a_row_that_does_not_parse_is_counted(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(
        b"image,caption,label\na.jpg,one,x\nb.jpg,two\nc.jpg,thr\xffee,x\nd.jpg,four,x\n"
    )
    found = read(tmp_path)
    assert found.rows.source_row.tolist() == [1, 4]
    assert found.malformed.source_row.tolist() == [2, 3]
    assert found.malformed.value[0] == "2 fields, the header has 3"
    assert found.malformed.value[1].startswith("not UTF-8")


def test_a_line_that_is_not_json_is_counted(tmp_path: Path) -> None:
    lines = [json.dumps(ROWS[0]), "{broken", '["a list"]', "", json.dumps(ROWS[2])]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    found = read(tmp_path)
    assert found.rows.source_row.tolist() == [1, 4]
    assert found.malformed.source_row.tolist() == [2, 3]


def test_a_field_without_end_is_one_bad_row(tmp_path: Path) -> None:
    giant = "x" * 1_100_000
    (tmp_path / "c.csv").write_text(f"image,caption,label\na.jpg,{giant},x\nb.jpg,two,x\n")
    found = read(tmp_path)
    assert len(found.rows) + len(found.malformed) >= 2
    assert "field larger than field limit" in found.malformed.value[0]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"source": "nowhere"}, DataError, "data.source is 'nowhere', which is not a folder"),
        ({"captions": "b.csv"}, DataError, "data.captions is 'b.csv'"),
        ({"captions": "../b.csv"}, ConfigError, "leads out of"),
        ({"image_root": ".."}, ConfigError, "data.image_root is '..', which leads out of"),
        ({"image_root": "none"}, DataError, "holds no such folder"),
        (
            {"columns": COLUMNS.model_copy(update={"caption": "text"})},
            DataError,
            "has no column 'text' (it has: caption, image, label): set data.columns.caption",
        ),
        (
            {"columns": COLUMNS.model_copy(update={"group": "product"})},
            DataError,
            "or to null if there is none",
        ),
    ],
)
def test_a_wrong_param_is_named(
    tmp_path: Path, changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    write(tmp_path, ".csv")
    with pytest.raises(kind) as error:
        read(tmp_path, **changes)
    assert message in str(error.value)


def test_several_captions_files_must_be_chosen_from(tmp_path: Path) -> None:
    write(tmp_path, ".csv")
    write(tmp_path, ".jsonl")
    with pytest.raises(DataError, match="several captions files"):
        read(tmp_path)
    assert len(read(tmp_path, captions="captions.jsonl").rows) == 3


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("image,caption,label\n")
    with pytest.raises(DataError, match="holds no rows"):
        read(tmp_path)


def test_a_broken_parquet_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a Parquet file"):
        read(tmp_path)
