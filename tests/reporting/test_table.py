import pandas as pd

from pipeline.reporting import table
from pipeline.reporting.table import COLUMNS, prediction_table
from tests.reporting.synthetic import predictions


def test_each_picture_is_a_row_of_what_was_said(monkeypatch):
    sets = {
        "target": predictions(("cat", "dog", "cat"), (None, "dog", "cat")),
        "art": predictions((None, None, None)),
    }
    found = prediction_table(sets)
    assert list(found.columns) == list(COLUMNS)
    assert found.iloc[0].to_list() == ["target", "0.png", "picture 0", "cat", "dog", "cat", 1, 2]
    assert found.iloc[1]["label"] is None
    assert found["set"].to_list() == ["target", "target", "art"]
    monkeypatch.setattr(table, "MOST", 2)
    assert len(prediction_table(sets)) == 2


def test_json_of_it_has_null_for_what_is_missing(tmp_path):
    file = tmp_path / "table.json"
    prediction_table({"target": predictions((None, None, None))}).to_json(
        file, orient="split", index=False
    )
    back = pd.read_json(file, orient="split")
    assert back["final_label"].isna().all()
    assert "NaN" not in file.read_text()
