from pathlib import Path

import pandas as pd
import pytest

from pipeline.captions.apply import apply_rules
from pipeline.captions.frequent import frequent_phrases
from pipeline.captions.rules import in_order
from pipeline.params import Params
from samples import params as sample_params
from samples.scenes.plan import plan


@pytest.fixture(scope="module")
def scenes() -> pd.Series:
    _, rows, _ = plan(sample_params.load().scenes.model_copy(update={"images": 1500}))
    return pd.Series([row.caption.rstrip(".") for row in rows if "," not in row.caption])


def planted(captions: pd.Series, text: str, *, every: int) -> pd.Series:
    """`text` with each caption in its place `{}`, for every so many of them."""
    mask = pd.Series(range(len(captions))) % every == 0
    return captions.where(~mask, [text.replace("{}", caption) for caption in captions])


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("{}, Buy now at Shop | free shipping", "Buy now at Shop | free shipping"),
        ("{} | Acme Stock Photography", "Acme Stock Photography"),
        ("{} - Acme Online Store", "Acme Online Store"),
        ("{} – Shop Acme.com, free delivery!", "Shop Acme.com, free delivery"),
        ("{} (click to enlarge)", "click to enlarge"),
        ("{} [courtesy Acme Archive]", "courtesy Acme Archive"),
        ("Stock photo number one | {}", "Stock photo number one"),
        ("{} • Kostenlos herunterladen jetzt", "Kostenlos herunterladen jetzt"),
    ],
)
def test_planted_phrases_are_found_and_nothing_else(
    text: str, phrase: str, scenes: pd.Series, defaults: Params
) -> None:
    captions = planted(scenes, text, every=10)
    phrases = frequent_phrases(captions, share=0.02)
    assert phrases == [phrase]
    restored, _, _ = apply_rules(captions, in_order(defaults.clean, frequent=phrases))
    clean, _, _ = apply_rules(scenes, in_order(defaults.clean))
    assert restored.tolist() == clean.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "{}, Buy now at Shop",  # behind a comma stands content
        "{}. This will be your starting position.",
        "a satellite photo: {}",
        "{}, a type of pet",
        "{} | Acme Store",  # two words
        "{} (red and blue)",  # words that the captions have without it
        "{} - a photo of a star",
        "{} Buy now at Shop free shipping",  # not set off
    ],
)
def test_content_is_none(text: str, scenes: pd.Series) -> None:
    assert frequent_phrases(planted(scenes, text, every=2), share=0.02) == []


def test_a_phrase_reaches_no_further_than_what_always_comes_with_it() -> None:
    medium = ["oil on canvas", "ink on paper", "oil on wood"]
    captions = [
        f"portrait {i} of a man, {medium[i % 3]} | Museum of Fine Things" for i in range(90)
    ]
    assert frequent_phrases(pd.Series(captions), share=0.02) == ["Museum of Fine Things"]


def test_what_is_too_rare_is_none(scenes: pd.Series) -> None:
    rare = planted(scenes, "{} | Acme Stock Photography", every=60)
    assert frequent_phrases(rare, share=0.02) == []
    assert frequent_phrases(rare, share=0.01) == ["Acme Stock Photography"]
    few = pd.Series([f"cat {i} | Acme Stock Photography" for i in range(19)])
    assert frequent_phrases(few, share=0.02) == []


def test_repeated_captions_count_once() -> None:
    captions = pd.Series(["a cat | Acme Stock Photography"] * 500 + ["a dog", "a cow"])
    assert frequent_phrases(captions, share=0.02) == []


def test_case_is_no_difference_and_order_is_by_count(scenes: pd.Series) -> None:
    captions = planted(scenes, "{} | SEE More At Acme", every=10)
    captions = planted(captions.iloc[::-1].reset_index(drop=True), "{} | see more at acme", every=9)
    both = planted(captions, "{} - Beta Test Pictures", every=15)
    phrases = frequent_phrases(both, share=0.02)
    assert [phrase.lower() for phrase in phrases] == ["see more at acme", "beta test pictures"]


def test_templates_are_no_phrases() -> None:
    things = pd.Series([f"a photo of a thing{i}" for i in range(100)])
    assert frequent_phrases(things, share=0.02) == []
    assert frequent_phrases(pd.Series([], dtype=str), share=0.02) == []


def test_the_sample_has_none() -> None:
    _, rows, _ = plan(sample_params.load().scenes)
    assert frequent_phrases(pd.Series([row.caption for row in rows]), share=0.02) == []


@pytest.mark.real
def test_real_captions_have_none(real: Path) -> None:
    for file in sorted(real.glob("*/captions*.csv")):
        assert frequent_phrases(pd.read_csv(file)["caption"], share=0.02) == [], file
