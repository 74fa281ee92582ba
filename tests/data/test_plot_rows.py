import pandas as pd

from pipeline.data.plot_rows import write_plot


def test_tags_become_quotes_and_all_else_stays(tmp_path):
    names = ["</script><b>x", "<!-- a", "a < b", "x > y", "<3", 'cat, "dog"\nowl', None, 0.1]
    rows = pd.DataFrame({"actual": names, "n": range(len(names))})
    write_plot(tmp_path / "plots" / "confusion.csv", rows)
    read = pd.read_csv(tmp_path / "plots" / "confusion.csv")
    expected = ["‹/script›‹b›x", "‹!-- a", "a < b", "x > y", "<3", 'cat, "dog"\nowl', None, "0.1"]
    assert [None if pd.isna(name) else name for name in read["actual"]] == expected
    assert read["n"].tolist() == list(range(len(names)))


def test_numbers_are_written_as_pandas_writes_them(tmp_path):
    rows = pd.DataFrame({"k": [1, 5], "recall": [1 / 3, 0.5], "missing": [None, 1.0]})
    write_plot(tmp_path / "recall.csv", rows)
    assert (tmp_path / "recall.csv").read_text() == rows.to_csv(index=False)
