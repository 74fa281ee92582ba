from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions.junk import REASONS, drop_reasons, is_file_name, repetition
from pipeline.data.scripts import count_words
from pipeline.errors import ConfigError
from pipeline.params import Params
from samples import params as sample_params
from samples.scenes.plan import plan

UUID = "762852a3-6f71-48c5-9b5b-e4818405fc3f"
FILE_NAMES = [
    "IMG_1234.jpg", "DSC00012", "20190304_120000.jpg", "20190304_120000", UUID, "images/001.png",
    "Screenshot 2020-01-01 at 10.00.00.png", "WhatsApp Image 2021-05-01 at 10.00.00 (1).jpeg",
    "IMG-20200101-WA0001", "_MG_1234", "p1010123", "image001", "IMG_20200101_120000_HDR",
    r"C:\pictures\cat.JPG", "000000123456", "4567891234_abcdef1234_b", "red-dress-front.webp",
    "d41d8cd98f00b204e9800998ecf8427e", "IMG 1234.jpg.", "Photo (3).jpg", "фото_001.jpg",
]  # fmt: skip
NO_FILE_NAMES = [
    "red dress", "B-52", "iPhone 12", "e-mail", "1984", "90/90", "MG 1234", "logo design", "F-16",
    "DSC-RX100", "R2-D2", "2001: A Space Odyssey", "deadbeef", "decade", "a photo of a dress.",
    "image of 12 cats", "photo 12", "t-shirt", "Photo by IMG_1234.jpg", "a red dress.jpg", "12.5",
]  # fmt: skip
JUNK = [
    "buy buy buy buy", "Buy, buy! BUY - buy.", "buy now buy now buy now", "A red dress. " * 3,
    "click here for more " * 4, "買買買買買買買買買", "ซื้อซื้อซื้อซื้อ", "купить " * 5,
]  # fmt: skip
SENTENCES = [
    "a red star and a blue star on a red table",
    "the cat sat on the mat and the cat sat on the hat",
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is "
    "but a dream",
    "Tyger Tyger, burning bright, in the forests of the night; what immortal hand or eye, could "
    "frame thy fearful symmetry? Tyger Tyger burning bright, in the forests of the night: what "
    "immortal hand or eye, dare frame thy fearful symmetry?",
    "one apple, two apples, three apples, four apples, five apples, six apples",
    "red, green, blue, red, green, yellow, red",
    "buffalo buffalo buffalo",
    "bye bye bye",
    "一只黑猫坐在沙发上,另一只黑猫坐在桌子上,还有一只白猫坐在窗台上",
    "แมวดำตัวหนึ่งนั่งอยู่บนโซฟา แมวขาวตัวหนึ่งนั่งอยู่บนโต๊ะ และแมวลายตัวหนึ่งนั่งอยู่บนเก้าอี้",
]


@pytest.mark.parametrize("name", FILE_NAMES)
def test_names_of_files_are_known(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize("caption", NO_FILE_NAMES)
def test_captions_are_no_names_of_files(caption: str) -> None:
    assert not is_file_name(caption)


@pytest.mark.parametrize(
    "hostile", ["img" + "1" * 5000 + "x", "photo " + "1" * 5000, "a" * 5000, "1" * 5000 + " .jp"]
)
@pytest.mark.timeout(2)
def test_no_name_takes_long(hostile: str) -> None:
    assert not is_file_name(hostile)


@pytest.mark.parametrize("caption", JUNK)
def test_repetition_is_high_where_little_is_said(caption: str) -> None:
    assert repetition(caption) > 0.6


@pytest.mark.parametrize("caption", SENTENCES)
def test_repetition_is_low_in_sentences(caption: str) -> None:
    assert repetition(caption) < 0.5


def test_repetition_by_hand() -> None:
    assert repetition("buy buy buy") == 0
    assert repetition("buy buy buy buy") == 3 / 4
    assert repetition("a b c a b c d") == 3 / 7
    assert repetition("a b c d e f x a b c d e f") == 6 / 13
    assert repetition("a b c d e x a b c d e") == 0


@given(st.lists(st.sampled_from("ab"), min_size=4).map(" ".join))
def test_what_is_said_four_times_repeats_three_quarters(caption: str) -> None:
    assert 0.75 <= repetition(f"{caption} " * 4) < 1


@pytest.mark.parametrize(
    ("caption", "words"),
    [("a red star, on-top!", 4), ("- | – &", 0), ("", 0), ("👩‍👧 ❤️", 2), ("猫", 1),
     ("黑猫坐在沙发上", 4), ("長袖の赤いドレス", 4),
     ("แมวดำบนโซฟา", 3), ("iPhone手机壳 12", 4),
     ("소파 위의 고양이", 3), ("90/90", 1)],
)  # fmt: skip
def test_words_are_counted_in_any_script(caption: str, words: int) -> None:
    assert count_words(caption) == words


def test_each_reason_in_its_order(defaults: Params) -> None:
    params = defaults.clean.model_copy(
        update={"min_words": 2, "max_words": 12, "languages": ["en"]}
    )
    captions = {
        "": "caption_empty_after_cleaning",
        "IMG_1234.jpg": "caption_too_short",
        "buy " * 13: "caption_too_long",
        "IMG 1234.jpg": "caption_file_name",
        "kaufen Sie " * 5: "caption_repetitive",
        "eine schwarze Katze sitzt auf dem Sofa": "caption_other_language",
        "a black cat on the sofa": None,
        "buy buy": None,
    }
    given_rows = pd.Series([*captions, ""], index=range(10, 19))
    reasons = drop_reasons(given_rows, params)
    assert reasons.index.equals(given_rows.index)
    told = [None if pd.isna(reason) else reason for reason in reasons]
    assert told == [*captions.values(), "caption_empty_after_cleaning"]
    assert tuple(captions.values())[:6] == REASONS


def test_of_two_reasons_the_first_is_given(defaults: Params) -> None:
    params = defaults.clean.model_copy(update={"min_words": 4, "max_words": 9, "languages": ["en"]})
    both = {
        "  ": "caption_empty_after_cleaning",  # also too short
        "IMG_1234.jpg": "caption_too_short",  # also a file name
        "photo 1 1 1 1 1 1 1 1 1 1.jpg": "caption_too_long",  # likewise, and it repeats itself
        "photo 1 1 1 1 1 1.jpg": "caption_file_name",  # also a repetition
        "kaufen Sie kaufen Sie kaufen Sie kaufen Sie": "caption_repetitive",  # also German
        "eine schwarze Katze sitzt auf dem Sofa": "caption_other_language",
    }
    assert is_file_name("photo 1 1 1 1 1 1.jpg")
    assert repetition("photo 1 1 1 1 1 1.jpg") > 0.6
    assert drop_reasons(pd.Series(list(both)), params).tolist() == list(both.values())
    assert tuple(both.values()) == REASONS


def test_limits_themselves_are_kept(defaults: Params) -> None:
    params = defaults.clean.model_copy(
        update={"min_words": 3, "max_words": 4, "max_repetition": 0.75}
    )
    captions = pd.Series(["one two", "one two three", "buy buy buy buy", "1 2 3 4 5"])
    told = ["caption_too_short", None, None, "caption_too_long"]
    assert drop_reasons(captions, params).replace({float("nan"): None}).tolist() == told


def test_what_is_off_rejects_nothing(defaults: Params) -> None:
    off = {"drop_file_names": False, "max_repetition": None, "languages": [], "min_words": 0}
    captions = pd.Series(["IMG_1234.jpg", "buy buy buy buy buy", "-"])
    assert drop_reasons(captions, defaults.clean.model_copy(update=off)).isna().all()


def test_an_empty_column_has_no_reasons(defaults: Params) -> None:
    assert drop_reasons(pd.Series([], dtype=str), defaults.clean).tolist() == []


def test_an_unknown_language_is_told_before_any_work(defaults: Params) -> None:
    params = defaults.clean.model_copy(update={"languages": ["en", "english"]})
    with pytest.raises(ConfigError, match=r"`clean.languages` holds 'english': known .* de, "):
        drop_reasons(pd.Series([], dtype=str), params)


def test_no_caption_of_the_sample_is_junk(defaults: Params) -> None:
    _, rows, truth = plan(sample_params.load().scenes)
    empty = {row[0] for row in truth if row[2] == "empty_caption"}
    told = [row.caption for number, row in enumerate(rows, start=1) if number not in empty]
    assert len(told) > 10_000
    reasons = drop_reasons(pd.Series(told), defaults.clean)
    assert reasons.value_counts().to_dict() == {}


@pytest.mark.real
def test_no_real_caption_is_junk(real: Path, defaults: Params) -> None:
    for file in sorted(real.glob("*/captions*.csv")):
        captions = pd.read_csv(file)["caption"]
        params = defaults.clean.model_copy(update={"languages": ["en"], "max_words": 1000})
        assert drop_reasons(captions, params).isna().all(), file
        assert max(map(repetition, captions.unique())) < 0.2
