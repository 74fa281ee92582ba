import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.validation import profile as profiles
from pipeline.validation.counting import Distinct, TopCounts
from pipeline.validation.profile import Profile, ProfileBuilder
from pipeline.validation.vocabulary import word_counts
from tests.validation.tables import images, pairs, profile, scenes


def filled(histogram):
    return {e: n for e, n in zip(histogram["edges"], histogram["counts"], strict=True) if n}


def test_a_profile_counted_by_hand():
    table = pairs(
        ("a", "A red star, red!", "star"),
        ("a", "the star", "star"),
        ("b", "Straße STRASSE", None),
        words=[4, 2, 2],
        tokens=[7, 4, 200],
    ).assign(split=["train", "train", None])
    pictures = images("ab", width=[64, 30], height=[48, 90], brightness=[0.5, 255.0])
    found = profile(table, pictures.assign(format=["JPEG", "PNG"]))
    assert (found["rows"], found["images"]) == (3, 2)
    assert filled(found["captions_per_image"]) == {1: 1, 2: 1}
    assert filled(found["words"]) == {2: 2, 4: 1}
    assert filled(found["tokens"]) == {4: 1, 6: 1, 128: 1}
    assert found["vocabulary"] == {
        "total": 8,
        "distinct": 5,
        "forgotten": 0,
        "words": {"red": 2, "star": 2, "strasse": 2, "a": 1, "the": 1},
    }
    assert found["labels"] == {"distinct": 1, "counts": {"star": 2}, "rest": 0, "none": 1}
    assert found["splits"] == {"train": 2}
    assert filled(found["image_side"]) == {23: 1, 45: 1}
    assert filled(found["aspect"]) == {0: 1, 106: 1}
    assert filled(found["brightness"]) == {0: 1, 240: 1}
    assert found["formats"] == {"JPEG": 1, "PNG": 1}


def test_a_profile_is_json_of_its_schema_and_holds_whole_numbers_only():
    found = profile(*scenes(30))
    assert Profile.model_validate(json.loads(json.dumps(found))).model_dump() == found
    assert "." not in json.dumps({**found, "vocabulary": None, "labels": None, "formats": None})


def test_tokens_that_nobody_counted_are_null_and_words_are_told_by_spaces():
    found = profile(pairs(("a", "one two three", None)), images("a"))
    assert found["tokens"] is None
    assert filled(found["words"]) == {3: 1}


def test_nothing_at_all_has_a_profile_too():
    found = ProfileBuilder().result()
    assert Profile.model_validate(found).rows == 0
    assert profile(pairs(), images("")) == found


@given(st.lists(st.integers(1, 40), max_size=5))
def test_the_same_rows_in_other_batches_make_the_same_profile(cuts):
    table, pictures = scenes(40)
    builder = ProfileBuilder()
    places = [0, *sorted(cuts), len(table)]
    seen = set()
    for start, end in pairwise(places):
        part = table[start:end]
        new = [id_ for id_ in dict.fromkeys(part["image_id"]) if id_ not in seen]
        seen |= set(new)
        builder.add(part, pictures[pictures["image_id"].isin(new)])
    assert builder.result() == profile(table, pictures)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("Don't (stop) -- me!", ["don", "t", "stop", "me"]),
        ("ein grüner Frosch", ["ein", "grüner", "frosch"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs belong to their word
        ("красная звезда", ["красная", "звезда"]),
        ("红星", ["红", "星"]),
        ("12 kg", ["12", "kg"]),
        ("!!! …", []),
        ("", []),
    ],
)
def test_words_of_every_script(caption, words):
    assert word_counts(pd.Series([caption])) == Counter(words)


@given(st.lists(st.text(max_size=30), max_size=5))
def test_words_do_not_depend_on_what_stands_beside_them(captions):
    apart = Counter()
    for caption in captions:
        apart.update(word_counts(pd.Series([caption], dtype="str")))
    assert word_counts(pd.Series(captions, dtype="str")) == apart


def test_of_very_many_labels_and_words_the_frequent_are_listed(monkeypatch):
    monkeypatch.setattr(profiles, "LABELS_KEPT", 2)
    monkeypatch.setattr(profiles, "WORDS_KEPT", 2)
    rows = [("a", f"w{i % 5} x", f"label {i % 4}") for i in range(14)]
    found = profile(pairs(*rows), images("a"))
    assert found["labels"]["counts"] == {"label 0": 4, "label 1": 4}
    assert (found["labels"]["distinct"], found["labels"]["rest"]) == (4, 6)
    assert found["vocabulary"]["words"] == {"x": 14, "w0": 3}


def test_counts_keep_the_frequent_in_bounded_memory_and_say_what_they_may_lack():
    rng = np.random.default_rng(0)
    kept, exact = TopCounts(kept=1000), Counter()
    for _ in range(40):
        names = Counter(f"n{rank}" for rank in rng.zipf(1.3, 2000))
        kept.add(names)
        exact.update(names)
        assert len(kept._counts) <= 1000
    assert len(exact) > 5_000
    assert 0 < kept.forgotten < exact.most_common(20)[-1][1] / 10
    for name, count in kept.top(20).items():
        assert exact[name] - kept.forgotten <= count <= exact[name]
    assert list(kept.top(5)) == [name for name, _ in exact.most_common(5)]
    assert kept.total == exact.total()


def test_equal_counts_are_forgotten_together():
    counts = TopCounts(kept=2)
    counts.add({"a": 1, "b": 1, "c": 1, "d": 5})
    assert counts.top(9) == {"d": 5}
    assert (counts.forgotten, counts.total) == (1, 8)


def test_distinct_names_are_counted_exactly_when_few_and_closely_when_many():
    few, many = Distinct(size=4096), Distinct(size=4096)
    few.add(["a", "b", "a"])
    few.add(["b", "c"])
    assert few.estimate() == 3
    for start in range(0, 200_000, 50_000):
        many.add([f"name {i}" for i in range(start, start + 60_000)])
    assert many.estimate() == pytest.approx(210_000, rel=0.05)
