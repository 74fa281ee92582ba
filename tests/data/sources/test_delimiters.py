"""A .csv whose fields something else than a comma parts."""

from pathlib import Path

import pytest
from test_formats import read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("by", [";", "\t", "|"])
def test_the_first_line_tells_what_parts_fields(tmp_path: Path, by: str, encoding: str) -> None:
    lines = ["filepath" + by + "title", f'a.jpg{by}"a star, red"', f"b.jpg{by}a disc, blue"]
    (tmp_path / "c.csv").write_text("\n".join(lines), encoding=encoding)
    source, (rows, malformed) = read(tmp_path)
    assert malformed.empty
    assert rows["caption"].tolist() == ["a star, red", "a disc, blue"]
    assert source.notes == [f"c.csv is parted by {by!r}"]


def test_a_comma_in_it_counts_before_all_others(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("image,caption,a;b;c|d\na.jpg,one;two,three\n")
    source, (rows, _) = read(tmp_path)
    assert rows["caption"].tolist() == ["one;two"]
    assert source.notes == []


def test_flickr30k_as_it_comes(tmp_path: Path) -> None:
    lines = ["image_name| comment_number| comment", "1.jpg| 0| A man .", "1.jpg| 1   A dog ."]
    (tmp_path / "results.csv").write_text("\n".join(lines))
    source, (rows, malformed) = read(tmp_path)
    assert source.columns == {"image": "image_name", "caption": "comment"}
    assert rows[["image", "caption"]].to_numpy().tolist() == [["1.jpg", " A man ."]]
    assert malformed["value"].tolist() == ["2 fields, the header has 3"]
