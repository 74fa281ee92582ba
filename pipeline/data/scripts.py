"""Scripts that set no space between words, which rules about words have to know."""

import re

HAN_AND_KANA = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Han, hiragana and katakana, as the inside of a character class. Hangul sets spaces."""

SOUTH_EAST_ASIAN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f"
"""Thai, Lao, Burmese and Khmer, their vowel signs and tone marks included."""

UNSPACED = HAN_AND_KANA + SOUTH_EAST_ASIAN

_HAN_AND_KANA = re.compile(f"[{HAN_AND_KANA}]")
_SOUTH_EAST_ASIAN = re.compile(f"[{SOUTH_EAST_ASIAN}]")
_UNSPACED = re.compile(f"[{UNSPACED}]+")
_SAYS_SOMETHING = re.compile(r"[^\W_]|[\u2190-\u2bff\U0001f000-\U0001faff]")


def is_unspaced(text: str) -> bool:
    """Whether any character is of a script without spaces."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def count_words(text: str) -> int:
    """Words, as a reader would count them, near enough for a limit.

    Between spaces, what holds a letter, a digit or a pictogram is a word; a lone mark is none.
    Scripts without spaces are counted by characters: two of Han or kana make a word, four of Thai,
    Lao, Khmer or Burmese (about their mean word lengths), a begun word being a word.
    """
    words = 0
    if not text.isascii():
        words += -(-len(_HAN_AND_KANA.findall(text)) // 2)
        words += -(-len(_SOUTH_EAST_ASIAN.findall(text)) // 4)
        text = _UNSPACED.sub(" ", text)
    pieces = text.split()
    return words + len(pieces) - sum(map(_is_mark, [p for p in pieces if not p.isalnum()]))


def _is_mark(piece: str) -> bool:
    return _SAYS_SOMETHING.search(piece) is None
