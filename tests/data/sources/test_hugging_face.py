"""Parts of a data set by the names of its files, as Hugging Face lays them out."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_formats import hugging_face, picture, read

from pipeline.data.sources.rows import split_name
from pipeline.errors import DataError

Write = Callable[[Path], None]


def parquets(*names: str) -> Write:
    def write(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(hugging_face(), folder / name)

    return write


def saved(folder: Path, table: pa.Table) -> None:
    name = "data-00000-of-00001.arrow"
    folder.mkdir()
    with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))


def dataset_dict(folder: Path) -> None:
    for name in ("train", "test"):
        saved(folder / name, hugging_face())
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))


LAYOUTS: dict[str, Write] = {
    "data": parquets("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
    "a folder a part": parquets("train/0000.parquet", "test/0000.parquet"),
    "two levels": parquets("default/train/0000.parquet", "default/test/0000.parquet"),
    "capitals": parquets("data/TRAIN-0.PARQUET", "data/test-0.Parquet"),
    "saved": dataset_dict,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_split_is_the_files(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    source, (rows, malformed) = read(tmp_path)
    assert malformed.empty
    names = [name.partition("!")[0] for name in rows["image"]]
    assert len(rows) == 6
    assert rows["split"].tolist() == ["train" if "train" in n.lower() else "test" for n in names]
    assert set(rows["split"]) == {"train", "test"}
    (note,) = (note for note in source.notes if "split" in note)
    assert "train" in note
    assert "test" in note


def test_files_of_paths_have_a_split_too(tmp_path: Path) -> None:
    for part in ("train", "validation"):
        row = {"image": f"{part}.jpg", "caption": part}
        (tmp_path / f"{part}-0.jsonl").write_text(json.dumps(row))
    _, (rows, _) = read(tmp_path)
    assert rows[["image", "split"]].to_numpy().tolist() == [
        ["train.jpg", "train"], ["validation.jpg", "val"],
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_captions_file_a_part_is_one_table_with_a_split(tmp_path: Path, suffix: str) -> None:
    for part in ("train", "val", "test"):
        table = pd.DataFrame({"image": [f"{part}.jpg"], "caption": [part]})
        file = tmp_path / f"{part}{suffix}"
        if suffix == ".parquet":
            table.to_parquet(file)
        elif suffix == ".jsonl":
            table.to_json(file, orient="records", lines=True)
        else:
            table.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
    source, (rows, malformed) = read(tmp_path)
    assert malformed.empty
    assert source.notes == [
        "files are named for a split (test, train, val): of rows without one it is theirs"
    ]
    assert sorted(rows[["image", "split"]].to_numpy().tolist()) == [
        ["test.jpg", "test"], ["train.jpg", "train"], ["val.jpg", "val"],
    ]  # fmt: skip


@pytest.mark.parametrize("names", [("train.csv", "train_b.csv"), ("train.csv", "other.csv")])
def test_of_files_that_are_no_parts_one_must_be_named(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).write_text("image,caption\na.jpg,a\n")
    with pytest.raises(DataError, match="several captions files"):
        read(tmp_path)


def test_rows_with_a_split_keep_it(tmp_path: Path) -> None:
    table = hugging_face().append_column("split", pa.array(["val", "val"]))
    for name in ("train-0.parquet", "test-0.parquet"):
        pq.write_table(table, tmp_path / name)
    _, (rows, _) = read(tmp_path)
    assert set(rows["split"]) == {"val"}


def test_a_name_that_all_files_share_is_no_split(tmp_path: Path) -> None:
    parquets("data/train-0.parquet", "data/train-1.parquet")(tmp_path)
    source, (rows, _) = read(tmp_path)
    assert rows["split"].tolist() == [None] * 6
    assert source.notes == []


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("default/validation/0000.parquet", "val"),
        ("test/train-0.parquet", "train"),  # the file's own name counts first
        ("train/extra/0.parquet", "train"),
        ("captions_val2017", "val"),
        ("data/part-0.parquet", None),
        ("contest/trains.parquet", None),
    ],
)
def test_the_split_in_a_name(path: str, split: str | None) -> None:
    assert split_name(path) == split


@pytest.mark.parametrize("odd", ["[" * 100_000, '{"info":' + "9" * 6000 + "}"])
def test_broken_metadata_names_no_classes(tmp_path: Path, odd: str) -> None:
    table = hugging_face().replace_schema_metadata({"huggingface": odd})
    pq.write_table(table, tmp_path / "a.parquet")
    _, (rows, _) = read(tmp_path)
    assert rows["label"].tolist() == ["0", "1", "1"]
    assert rows["content"].tolist() == [picture("a"), picture("b"), picture("b")]


def test_a_state_nested_too_deep_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not what save_to_disk writes"):
        read(tmp_path)
