"""A column of parts in which some values are none."""

from pathlib import Path

import pandas as pd
import pytest
from test_formats import AUTO, read


def write(folder: Path, values: list[str | None]) -> None:
    frame = pd.DataFrame({"image": "a.jpg", "caption": "one", "split": values})
    frame.to_csv(folder / "c.csv", index=False)


def test_one_odd_value_leaves_the_others_their_split(tmp_path: Path) -> None:
    write(tmp_path, ["train", "trian", "test"])
    source, (rows, _) = read(tmp_path)
    assert rows["split"].tolist() == ["train", "trian", "test"]  # validate: split_unknown
    assert source.notes == ["column split holds trian: such rows are rejected"]


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["fold1", "fold2"], "column split is no split: it holds fold1, fold2"),
        (["a", "b", "train"], "column split is no split: it holds a, b"),
        ([None, None], "column split is no split: it holds nothing"),
    ],
)
def test_a_column_of_other_things_is_none(
    tmp_path: Path, values: list[str | None], note: str
) -> None:
    write(tmp_path, values)
    source, (rows, _) = read(tmp_path)
    assert rows["split"].tolist() == [None] * len(values)
    assert source.notes == [note]


@pytest.mark.parametrize("values", [["fold1", "fold2"], ["a", "b", "train"]])
def test_a_column_that_is_named_is_kept(tmp_path: Path, values: list[str | None]) -> None:
    write(tmp_path, values)
    _, (rows, _) = read(tmp_path, columns=AUTO.model_copy(update={"split": "split"}))
    assert rows["split"].tolist() == values
