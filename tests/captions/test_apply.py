import random
from time import process_time

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions import apply as apply_module
from pipeline.captions.apply import Example, apply_rules, clean_caption
from pipeline.captions.rules import in_order
from pipeline.params import Params

RULES = {
    "no_b": lambda text: text.replace("b", ""),
    "ac_is_b": lambda text: text.replace("ac", "b"),
}


def test_rules_apply_in_order_and_each_change_is_counted() -> None:
    captions = pd.Series(["abc", "xy", "bb", "abc", "b1", "b2", "bc"], index=range(5, 12), name="c")
    cleaned, changed, examples = apply_rules(captions, RULES)
    assert cleaned.tolist() == ["", "xy", "", "", "1", "2", "c"]
    assert changed == {"no_b": 6, "ac_is_b": 2}
    assert examples == {
        "no_b": [Example(0, "abc", "ac"), Example(2, "bb", ""), Example(4, "b1", "1")],
        "ac_is_b": [Example(0, "ac", "b")],
    }
    assert cleaned.index.equals(captions.index)
    assert (cleaned.name, cleaned.dtype) == ("c", captions.dtype)


@pytest.mark.parametrize("dtype", [object, "str", "string[pyarrow]", "string[python]"])
def test_any_column_of_text_will_do(dtype: object) -> None:
    cleaned, changed, _ = apply_rules(pd.Series(["b", None, "x"], dtype=dtype), RULES)
    assert cleaned.dtype == dtype
    assert cleaned[0] == ""
    assert cleaned[1:].isna().tolist() == [True, False]
    assert changed == {"no_b": 1, "ac_is_b": 0}


def test_an_empty_column_stays_empty() -> None:
    cleaned, changed, examples = apply_rules(pd.Series([], dtype=str), RULES)
    assert (len(cleaned), changed, examples) == (
        0, {"no_b": 0, "ac_is_b": 0}, {"no_b": [], "ac_is_b": []},
    )  # fmt: skip


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, defaults: Params) -> None:
    captions = pd.Series([f"<b>cat</b> {i % 50} #x{i % 7}" for i in range(300)])
    rules = in_order(defaults.clean)
    whole = apply_rules(captions, rules)
    monkeypatch.setattr(apply_module, "_BLOCK", 7)
    parts = apply_rules(captions, rules)
    assert whole[0].equals(parts[0])
    assert whole[1:] == parts[1:]


@given(st.lists(st.text(alphabet="abc<>&;@#. ", max_size=8), max_size=12))
def test_a_column_is_cleaned_as_each_of_its_captions(defaults: Params, captions: list[str]) -> None:
    rules = in_order(defaults.clean)
    cleaned, _, examples = apply_rules(pd.Series(captions, dtype=object), rules)
    assert cleaned.tolist() == [clean_caption(caption, rules) for caption in captions]
    again, changed, _ = apply_rules(cleaned, rules)
    assert again.tolist() == cleaned.tolist()
    assert set(changed.values()) <= {0}
    assert all(e.before != e.after for listed in examples.values() for e in listed)


@pytest.mark.slow
def test_a_million_captions_take_seconds(defaults: Params) -> None:
    """Goal: 15 s on one core; 30 leave room for a busy machine."""
    draw = random.Random(0)
    words = ["a", "red", "blue", "star", "ring", "cat", "wooden", "chair", "photo", "of", "the"]
    wide = [
        "ein",
        "süßes",
        "Kätzchen",
        "größe",
        "кошка",
        "сидит",
        "диване",
        "猫が",
        "座って",
        "café",
    ]

    def caption(number: int) -> str:
        text = " ".join(draw.choices(wide if number % 10 == 0 else words, k=11))
        return f"<p>{text} #{draw.choice(words)}</p>" if number % 10 == 1 else text

    captions = pd.Series([caption(number) for number in range(1_000_000)])
    start = process_time()
    apply_rules(captions, in_order(defaults.clean))
    assert process_time() - start < 30
