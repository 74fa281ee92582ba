"""Set phrases out of a caption: wherever they stand, or where an end of the caption is set off."""

import re
from collections.abc import Callable, Sequence

from pipeline.data.scripts import UNSPACED

_BEFORE = r"[\s,;:|–—-]*[(\[]?"
_AFTER = r"[)\]]?"
_MARK = r"(?:\s*[|•·»¦(\[,;:.!?]\s*|\s+[-–—]+\s+)"
_CLOSING = r"[\s.,;:!?)\]|]*"
_WORD = re.compile(r"\w+")
_SPACED_LETTER = re.compile(rf"[^\W{UNSPACED}]")


def anywhere(phrases: Sequence[str]) -> Callable[[str], str]:
    """A rule that drops each phrase wherever it stands as whole words, whatever its case.

    What sets it off goes with it: `, phrase`, `(phrase)`.
    """
    return _rule(f"{_BEFORE}(?:{_either(phrases)}){_AFTER}", phrases)


def at_an_end(phrases: Sequence[str]) -> Callable[[str], str]:
    """A rule that drops each phrase where it begins or ends a caption and a mark sets it off."""
    either = f"(?:{_either(phrases)})"
    return _rule(rf"{_MARK}{either}{_CLOSING}$|^[\s(\[]*{either}[)\]]?{_MARK}", phrases)


def has_word(phrase: str) -> bool:
    """Whether a phrase holds a letter or a digit: without one it is no phrase."""
    return _WORD.search(phrase) is not None


def _rule(pattern: str, phrases: Sequence[str]) -> Callable[[str], str]:
    """Drop `pattern` until nothing changes: what is left may stand together as a phrase anew."""
    compiled = re.compile(pattern, re.IGNORECASE)
    hints = tuple({max(_WORD.findall(phrase), key=len).lower() for phrase in phrases})

    def rule(caption: str) -> str:
        if caption.isascii():  # elsewhere the pattern's idea of case is wider than lower()
            lowered = caption.lower()
            if not any(hint in lowered for hint in hints):
                return caption
        while True:
            plain = compiled.sub(" ", caption)
            if plain == caption:
                return plain
            caption = plain

    return rule


def _either(phrases: Sequence[str]) -> str:
    """The phrases as alternatives, longest first; any space stands for any other."""
    longest_first = sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))
    return "|".join(_whole_words(phrase) for phrase in longest_first)


def _whole_words(phrase: str) -> str:
    words = phrase.split()
    first = r"(?<!\w)" if _SPACED_LETTER.match(words[0]) else ""
    last = r"(?!\w)" if _SPACED_LETTER.match(words[-1][-1]) else ""
    return first + r"\s+".join(re.escape(word) for word in words) + last
