"""What a search shows, in the terminal and as a page."""

import pandas as pd
import pytest

from pipeline.clip.search import Hit
from pipeline.errors import DataError
from pipeline.reporting.hits import as_page, as_text, describe
from tests.drawing import draw

HOSTILE = '<script>alert(1)</script>\x1b[31m"'


@pytest.fixture
def pairs(tmp_path):
    draw(tmp_path / "1.jpg", (200, 30, 30), size=(40, 30))
    rows = [
        {"image_id": "a", "image": "1.jpg", "file": "1.jpg", "caption": HOSTILE},
        {"image_id": "a", "image": "1.jpg", "file": "1.jpg", "caption": "another"},
        {"image_id": "b", "image": "gone.jpg", "file": "gone.jpg", "caption": "two"},
    ]
    return pd.DataFrame(rows).assign(offset=None, length=None, packed=False, split="test")


@pytest.fixture
def found(tmp_path, pairs):
    hits = [Hit("b", 0.5), Hit("a", 0.25)]
    return describe(hits, pairs, source=tmp_path, packed=tmp_path, pictures=True)


def test_a_line_a_picture_and_no_caption_steers_the_terminal(found):
    first, second = as_text(found).splitlines()
    assert first.split() == ["1", "0.500", "gone.jpg", "two"]
    assert "\x1b" not in second
    assert "alert(1)" in second


def test_a_picture_that_cleaning_has_dropped_since_says_what_to_do(tmp_path, pairs):
    with pytest.raises(DataError, match="run `dvc repro embed`"):
        describe([Hit("c", 0.5)], pairs, source=tmp_path, packed=tmp_path, pictures=False)


def test_the_page_holds_the_pictures_and_escapes_all_text(found):
    page = as_page(HOSTILE, found, model="the base model")
    assert page.count("data:image/jpeg;base64,") == 1
    assert "no picture" in page
    assert "<script>" not in page
