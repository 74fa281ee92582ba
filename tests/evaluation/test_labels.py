"""Labels as names of classes, and captions that are no more than these."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table
from pipeline.errors import DataError
from pipeline.evaluation import labels, sets

WHERE = pd.Series(["mine: row 1", "mine: row 2"])


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("7", "fox"),
        ("007", "fox"),
        ("7.0", "fox"),
        ("a_b", "hare"),
        ("a b", "hare"),
        ("fox", "fox"),
    ],
)
def test_a_label_is_found_as_people_write_it(label: str, name: str) -> None:
    found = labels.named(pd.Series([label, None]), {"7": "fox", "a-b": "hare"}, where=WHERE)
    assert found.dropna().tolist() == [name]


def test_a_label_goes_before_a_name() -> None:
    found = labels.named(pd.Series(["1", "2"]), {"1": "2", "2": "1"}, where=WHERE)
    assert found.tolist() == ["2", "1"]


def test_an_unknown_label_is_told_with_its_row() -> None:
    with pytest.raises(DataError, match=r"mine: row 2 has the label '9', and the set names 1 cl"):
        labels.named(pd.Series(["7", "9"]), {"7": "fox"}, where=WHERE)


@pytest.mark.parametrize(
    ("captions", "classes", "same"),
    [
        (["a cat.", "a dog."], ["cat", "dog"], True),
        (["A Cat.", "a polar  bear."], ["cat", "polar_bear"], True),
        (["a cat.", "one dog."], ["cat", "dog"], False),
        (["a cat.", "a cat."], ["cat", "cat"], False),
        (["a cat.", "a dog."], ["cat", None], False),
        (["a cat and a cat", "a dog and a dog"], ["cat", "dog"], False),
    ],
)
def test_captions_that_say_no_more_than_classes(
    captions: list[str], classes: list[str | None], same: bool
) -> None:
    assert labels.are_captions(pd.Series(captions), pd.Series(classes)) == same


@pytest.mark.parametrize(
    ("captions", "unsearched"),
    [(["a photo of a cat", "a photo of a dog"], labels.OF_CLASSES), (["a cat", "the dog"], None)],
)
def test_neither_is_a_target_searched_for_its_classes(
    tmp_path: Path, captions: list[str], unsearched: str | None
) -> None:
    rows = [
        {
            **dict.fromkeys(PAIR.names),
            **{"pair": i, "source_row": i, "image_id": f"{i:064}", "image": f"{i}.jpg"},
            **{"file": f"{i}.jpg", "packed": False, "caption": caption, "label": label},
            **{"split": "test", "image_group": f"{i:064}", "width": 8, "height": 8},
        }
        for i, (caption, label) in enumerate(zip(captions, ["cat", "dog"], strict=True))
    ]
    write_table(pd.DataFrame(rows), PAIR, tmp_path / PAIRS_FILE)
    assert sets.target(tmp_path, tmp_path, packed=tmp_path).unsearched == unsearched
