import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clip.tokens import TokenCounter, token_counter
from pipeline.errors import ModelError
from pipeline.params import ModelParams

TOKENIZER = open_clip.get_tokenizer("ViT-B-32")
COUNTER = TokenCounter(TOKENIZER)


def own(text: str) -> int:
    """What the tokenizer itself gives with room to spare: all up to the end, the largest token."""
    return int(TOKENIZER([text], context_length=3000)[0].argmax()) + 1


@pytest.mark.parametrize(
    "text",
    [
        "a red star", "", "Don't  STOP, it's 12:30!!", "caf\u00e9 &amp; bar", "\u8d64\u3044\u661f",
        "a<b>c 3.14 #tag @me", "tabs\tand\nlines", "under_score-and-dash", "'S 't \"quoted\"",
        "\U0001f600 smile",
    ],
)  # fmt: skip
def test_counts_are_the_tokenizers_own(text: str) -> None:
    assert COUNTER.count([text]).tolist() == [own(text)]


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
@settings(max_examples=300, deadline=None)
def test_plain_ascii_takes_the_short_way_to_the_same_count(text: str) -> None:
    assert COUNTER.count([text]).tolist() == [own(text)]


@given(st.text(max_size=40).filter(lambda t: "\x00" not in t and t.isprintable()))
@settings(max_examples=150, deadline=None)
def test_any_other_text_too(text: str) -> None:
    assert COUNTER.count([text]).tolist() == [own(text)]


def test_the_limit_is_the_models() -> None:
    assert COUNTER.limit == 77


def test_a_tokenizer_needs_no_weights() -> None:
    counter = token_counter(ModelParams(name="ViT-B-32", pretrained="not-fetched"))
    assert counter.count(["a red star"]).tolist() == [5]


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ModelError, match=r"model\.name is 'ViT-none'"):
        token_counter(ModelParams(name="ViT-none", pretrained="nothing"))
