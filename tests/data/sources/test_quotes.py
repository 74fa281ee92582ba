"""A quote that nothing closes costs its own line, and no other."""

import time
from pathlib import Path

import pytest
from test_formats import read

from pipeline.data.sources import quotes
from pipeline.data.sources.rows import BadRow
from pipeline.errors import DataError

ROWS = [f"{i}.jpg,caption {i}" for i in range(1, 13)]


def captions(folder: Path, lines: list[str]) -> tuple[list[str], list[str]]:
    """Captions of the rows that are read, and what is said of the others."""
    (folder / "c.csv").write_text("\n".join(["image,caption", *lines]) + "\n")
    _, (rows, bad) = read(folder)
    return rows["caption"].tolist(), bad["value"].tolist()


def test_a_quote_left_open_at_the_end_of_the_file(tmp_path: Path) -> None:
    lines = [*ROWS]
    lines[2] = '3.jpg,"caption 3'
    good, bad = captions(tmp_path, lines)
    assert good == [f"caption {i}" for i in range(1, 13) if i != 3]
    assert bad == [
        "line 4: a quote opens and is not closed in it, nor as it should be by line 13: write a "
        "quote inside a quoted field twice, and close each"
    ]


@pytest.mark.parametrize(
    "closing",
    [
        '9.jpg,"caption 9"',  # closes before a letter
        '9.jpg,caption "9"',  # closes before a digit
        '9.jpg,caption 9"',  # closes at the end of the line: a whole field, of six lines
    ],
)
def test_a_quote_that_a_later_row_closes(tmp_path: Path, closing: str) -> None:
    lines = [*ROWS]
    lines[2], lines[8] = '3.jpg,"caption 3', closing
    good, bad = captions(tmp_path, lines)
    assert [text.replace('"', "") for text in good] == [
        f"caption {i}" for i in range(1, 13) if i != 3
    ]
    assert [text.partition(":")[0] for text in bad] == ["line 4"]


def test_a_quote_left_open_in_the_last_line(tmp_path: Path) -> None:
    good, bad = captions(tmp_path, [*ROWS[:2], '3.jpg,"capt'])
    assert good == ["caption 1", "caption 2"]
    assert [text.partition(":")[0] for text in bad] == ["line 4"]


def test_captions_of_several_lines_stay_whole(tmp_path: Path) -> None:
    two = '2.jpg,"a dog, brown\nand ""big"", he says\n\nof 3"'
    good, bad = captions(tmp_path, [ROWS[0], two, ROWS[2]])
    assert good == ["caption 1", 'a dog, brown\nand "big", he says\n\nof 3', "caption 3"]
    assert bad == []


def test_one_after_an_open_quote_too(tmp_path: Path) -> None:
    lines = ['1.jpg,"open', ROWS[1], '3.jpg,"two\nlines"', ROWS[3]]
    good, bad = captions(tmp_path, lines)
    assert good == ["caption 2", "two\nlines", "caption 4"]
    assert len(bad) == 1


def test_letters_after_a_closing_quote_stay_as_they_were(tmp_path: Path) -> None:
    good, bad = captions(tmp_path, ['1.jpg,"a "big" dog"', '2.jpg,5" wide'])
    assert good == ['a big" dog"', '5" wide']
    assert bad == []


def test_an_open_quote_beyond_the_limit_of_a_field(tmp_path: Path) -> None:
    lines = [f"{i}.jpg,a caption of some length, said to be number {i}" for i in range(30_000)]
    lines = [line.replace(", said", " said") for line in lines]
    lines[7] = '7.jpg,"open'
    good, bad = captions(tmp_path, lines)
    assert len(good) == 29_999
    assert [text.partition(":")[0] for text in bad] == ["line 9"]


def test_a_header_with_an_open_quote_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text('image,"caption\n1.jpg,one\n')
    with pytest.raises(DataError, match="its first line names no columns: line 1: a quote opens"):
        read(tmp_path)


def test_quotes_that_go_on_and_on_take_no_long_time() -> None:
    """Read line by line, each anew to the end, these would take a minute."""
    lines = ["a,b\n", *['x","y\n'] * 60_000]
    before = time.process_time()
    found = list(quotes.records(iter(lines), delimiter=","))
    assert time.process_time() - before < 5
    assert len(found) == len(lines)
    assert sum(isinstance(row, BadRow) for row in found) == len(lines) - 1
