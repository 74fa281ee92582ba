from pathlib import Path

import pytest

from pipeline.data.sources.named import named_columns
from pipeline.errors import DataError
from pipeline.params import Params


def test_a_column_is_read_by_the_row_that_it_stands_in(tmp_path: Path, defaults: Params) -> None:
    lines = ["image,caption,camera", "a.jpg,one,A", "b.jpg,two", "c.jpg,three,"]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    data = defaults.data.model_copy(update={"source": str(tmp_path), "captions": "captions.csv"})
    found = named_columns(data, ["camera"], key="evaluate.slices.columns")
    assert found["camera"].to_dict() == {1: "A", 3: ""}, "row 2 does not parse"
    assert named_columns(data, [], key="").empty
    with pytest.raises(DataError, match=r"^evaluate\.slices\.columns names 'lens'.*'camera'"):
        named_columns(data, ["lens"], key="evaluate.slices.columns")
