import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.pairs import PAIR, TableWriter
from pipeline.validation.figures import Figures, Tally

LIMIT = 8
COLUMNS = ["image_id", "caption", "label", "split", "tokens"]


def pairs(*rows):
    """Accepted pairs with what the figures read; image names are their ids."""
    frame = pd.DataFrame(rows, columns=COLUMNS)
    numbers = np.arange(1, len(rows) + 1)
    texts = dict.fromkeys(COLUMNS[:4], "str")
    return frame.astype(texts).assign(
        pair=numbers, source_row=numbers * 10, words=frame["tokens"] - 2, image=frame["image_id"],
        file=frame["image_id"], offset=None, length=None, packed=False, group=None,
        image_group=None, width=1, height=1,
    )  # fmt: skip


def measured(folder, table, *, cut=None, reasons=(), rejected=None):
    figures = Figures(token_limit=LIMIT, few_words=3, many_words=5)
    file = folder / "pairs.parquet"
    if rejected is not None:
        figures.reject(rejected)
    with TableWriter(file, PAIR) as writer:
        for part in (table,) if cut is None else (table[:cut], table[cut:]):
            writer.write(part)
            figures.accept(part)
    return figures.result(file, reasons=reasons)


HAND = (
    ("a", "a red cat", "cat", "train", 5),
    ("b", "a red cat", "cat", "test", 5),
    ("a", "a red cat", "cat", "train", 5),
    ("c", "a blue dog", "dog", "train", 9),
    ("c", "a blue dog", "dog", "train", 9),
    ("d", "one more", None, "test", 8),
    ("e", "a small owl", "owl", "test", 5),
    ("f", "two more", None, "train", 4),
)


@pytest.mark.parametrize("cut", [None, 1, 4, 7])
def test_figures_counted_by_hand(tmp_path, cut):
    found = measured(tmp_path, pairs(*HAND), cut=cut)
    values = {name: (figure.value, figure.count) for name, figure in found.items()}
    assert values == {
        "accepted": (8, 8),
        "rejected": (0.0, 0),
        "short_captions": (0.125, 1),  # of two words, where three are not short
        "long_captions": (0.375, 3),  # of six and seven, where five are not long
        "truncated": (0.25, 2),
        "repeated": (0.25, 2),  # the third and the fifth row
        "caption_elsewhere": (0.375, 3),  # the red cat is a and b; the blue dog is c alone
        "most_frequent_caption": (0.375, 3),
        "unlabelled": (0.25, 2),
        "labels_not_in_split": (0.666667, 2),  # dog is not in test, owl is not in train
    }
    examples = {name: [tuple(e.values()) for e in f.examples] for name, f in found.items()}
    assert examples["short_captions"] == [(80, "two more")]
    assert [row for row, _ in examples["long_captions"]] == [40, 50, 60]
    assert examples["repeated"] == [(30, "a red cat"), (50, "a blue dog")]
    assert examples["truncated"] == [(40, "a blue dog"), (50, "a blue dog")]
    assert examples["caption_elsewhere"] == [(row, "a red cat") for row in (10, 20, 30)]
    assert examples["unlabelled"] == [(60, "d"), (80, "f")]
    assert examples["labels_not_in_split"] == [(40, "dog: not in test"), (70, "owl: not in train")]


def test_the_most_frequent_of_equals_is_the_first(tmp_path):
    rows = [(str(i), caption, None, None, 3) for i, caption in enumerate("xyyxz")]
    found = measured(tmp_path, pairs(*rows))["most_frequent_caption"]
    assert found.value == 0.4
    assert [example["source_row"] for example in found.examples] == [10, 40]


def test_what_is_not_there_is_not_measured(tmp_path):
    bare = measured(tmp_path, pairs(("a", "x", None, None, 3)))
    assert bare["unlabelled"].value is None
    assert bare["labels_not_in_split"].value is None
    one_part = measured(tmp_path, pairs(("a", "x", "cat", "train", 3)))
    assert one_part["unlabelled"].value == 0.0
    assert one_part["labels_not_in_split"].value is None


def test_rejected_rows_are_shares_of_all_and_show_the_first(tmp_path):
    reasons = ["image_missing", "caption_empty", "image_missing"]
    rejected = pd.DataFrame({"source_row": [2, 3, 9], "reason": reasons, "value": ["p", None, "q"]})
    rejected = rejected.astype({"reason": "str", "value": "str"})
    named = ["image_missing", "image_truncated"]
    found = measured(tmp_path, pairs(*HAND[:5]), reasons=named, rejected=rejected)
    assert found["rejected"].value == 0.375
    said = [(e["source_row"], e["value"]) for e in found["rejected"].examples]
    assert said == [(2, "image_missing: p"), (3, "caption_empty"), (9, "image_missing: q")]
    missing = found["rejected_for.image_missing"]
    assert (missing.value, missing.count) == (0.25, 2)
    assert missing.examples == [{"source_row": 2, "value": "p"}, {"source_row": 9, "value": "q"}]
    assert found["rejected_for.image_truncated"].value == 0.0


CAPTIONS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("vwxyz")), min_size=1, max_size=30
)


@given(rows=CAPTIONS)
def test_repeated_captions_as_pandas_counts_them(tmp_path_factory, rows):
    table = pairs(*((image, caption, None, None, 3) for image, caption in rows))
    found = measured(tmp_path_factory.mktemp("figures"), table)
    images = table.groupby("caption")["image_id"].transform("nunique")
    assert found["caption_elsewhere"].value == round(float((images > 1).mean()), 6)
    again = table.duplicated(["image_id", "caption"])
    assert found["repeated"].count == again.sum()
    assert [e["source_row"] for e in found["repeated"].examples] == (
        table["source_row"][again].head(3).tolist()
    )
    top = table["caption"].value_counts(normalize=True).max()
    assert found["most_frequent_caption"].value == round(float(top), 6)


@given(values=st.lists(st.integers(0, 200), min_size=1), share=st.sampled_from([0.01, 0.5, 0.99]))
def test_a_quantile_is_the_least_value_that_enough_do_not_exceed(values, share):
    tally = Tally()
    for start in range(0, len(values), 3):
        tally.add(np.array(values[start : start + 3]))
    expected = np.quantile(values, share, method="inverted_cdf")
    assert tally.quantile(share) == expected
    assert tally.above(100) == sum(value > 100 for value in values)
    assert tally.below(100) == sum(value < 100 for value in values)
