from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from pipeline.duplicates.captions import near_captions, shingles_of
from pipeline.duplicates.groups import group_of

LONG = "a large red star on an old wooden table near the window"


def pairs_of(found: pd.DataFrame, captions: list[str]) -> set[frozenset[str]]:
    return {frozenset((captions[a], captions[b])) for a, b in zip(found.a, found.b, strict=True)}


def test_jaccard_by_hand() -> None:
    """Words a, b, c and pairs ab, bc against a, b and ab: 3 shared of 5."""
    assert shingles_of("a b c") == {"a", "b", "c", "a b", "b c"}
    found = near_captions(["a b c", "A b."], min_similarity=0.5)
    assert found.to_numpy().tolist() == [[0, 1, pytest.approx(3 / 5)]]


def test_a_changed_word_of_a_short_caption_is_no_near_duplicate() -> None:
    captions = ["a red star", "a blue star", LONG, f"{LONG} today", "two dogs"]
    assert pairs_of(near_captions(captions, min_similarity=0.8), captions) == {
        frozenset((LONG, f"{LONG} today"))
    }


def test_scripts_without_spaces_are_compared_by_character() -> None:
    captions = [
        "赤い星が古い木のテーブルの上にある",
        "赤い星が古い木のテーブルの上にある。",
        "青い円",
    ]
    found = near_captions(captions, min_similarity=0.8)
    assert found[["a", "b"]].to_numpy().tolist() == [[0, 1]]


def test_it_finds_what_comparing_all_pairs_finds() -> None:
    random = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    captions = sorted({" ".join(random.choice(words, 10)) for _ in range(400)})
    captions += [f"{caption} more" for caption in captions[:60]]
    captions += [f"{caption} or less" for caption in captions[30:60]]
    sets = [shingles_of(caption) for caption in captions]
    true = {
        (a, b)
        for a, b in combinations(range(len(captions)), 2)
        if len(sets[a] & sets[b]) >= 0.8 * len(sets[a] | sets[b])
    }
    found = near_captions(captions, min_similarity=0.8)
    assert len(true) > 80
    assert set(zip(found.a, found.b, strict=True)) == true


def test_the_order_of_captions_changes_nothing() -> None:
    captions = [f"{LONG} number {i}" for i in range(40)] + ["something else"]
    there = pairs_of(near_captions(captions, min_similarity=0.8), captions)
    captions.reverse()
    assert pairs_of(near_captions(captions, min_similarity=0.8), captions) == there


def test_a_template_gives_one_group_and_few_pairs() -> None:
    captions = [f"{LONG} number {i}" for i in range(3_000)]
    found = near_captions(captions, min_similarity=0.8)
    assert len(found) < 150 * len(captions)
    groups = group_of(list(range(len(captions))), found)
    assert set(groups.values()) == {0}
    assert len(groups) == len(captions)


@pytest.mark.parametrize("captions", [[], ["alone"], ["!", "?"]])
def test_few_or_empty_captions(captions: list[str]) -> None:
    assert len(near_captions(captions, min_similarity=0.8)) in (0, 1)
