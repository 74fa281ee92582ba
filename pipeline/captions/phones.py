"""Telephone numbers out of a caption, and no other number.

A bare run of digits may be anything, so a number counts where its form or the word before it says
that it is for dialling: `+49 30 1234567`, `(555) 123-4567`, `555-123-4567`, `Tel.: 030 1234567`.
"""

import re

_HINT = re.compile(r"[0-9](?:[\s().\-/–]{0,3}[0-9]){5}")
"""Six digits close together: fewer make no telephone number."""

_INTERNATIONAL = re.compile(
    r"(?<![\w+])(?:\+|\(\+)[1-9][0-9]{0,14}\)?"
    r"(?:[\s.\-/]?\([0-9]{1,5}\)|(?:[\s.\-/]{1,3}|(?<=\)))[0-9]{2,15}){0,7}(?![\w%])"
)
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.\-/+(])(?:1[\s.\-])?"
    r"(?:\([0-9]{3}\)\s?[0-9]{3}[\s.\-]|(?![0-9][0-9]0[.\-][0-9][0-9]0)[0-9]{3}(?P<mark>[.\-])[0-9]{3}(?P=mark))[0-9]{4}"
    r"(?![\w%]|[.\-/][0-9])"
)
"""Three, three and four digits; round ones are a range of sizes (`grit 120-240-1000`)."""

_SAID = re.compile(
    r"(?:(?<!\w)(?:tel|telephone|telefon|tél|téléphone|teléfono|fax|hotline|whatsapp)\b[.:]*"
    r"|(?<!\w)(?:ph|phone|mob|mobile|mobil|cell|handy|call|call us)\b\s?(?:[.:]+|no\.?|number:?)"
    r"|(?<!\w)call(?: us)?(?: at| on| now)?\b"
    r"|[\u260e\u260f\u2706\U0001f4de\U0001f4f1]\ufe0f?)"
    r"\s*(?P<number>(?:\(?\+|\()?[0-9](?:[\s().\-/–]{0,3}[0-9]){5,14})(?![\w%])",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"[0-9]")


def strip_phones(caption: str) -> str:
    """Drop telephone numbers, with the word that announces them.

    Kept: years, sizes, prices, counts, fractions, product numbers: `1234567890 ways`, `90/90`,
    `2019-2020`, `10 x 20 cm`.
    """
    if not _HINT.search(caption):
        return caption
    caption = _SAID.sub(" ", caption)
    caption = _INTERNATIONAL.sub(_dropped_if_long, caption)
    return _NORTH_AMERICAN.sub(" ", caption)


def _dropped_if_long(number: re.Match[str]) -> str:
    """International numbers hold 8 to 15 digits (ITU-T E.164)."""
    return " " if 8 <= len(_DIGIT.findall(number.group())) <= 15 else number.group()
