"""Caption rules: one small function each, text in, text out. Cleaning twice is cleaning once."""

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from html.parser import HTMLParser

import ftfy

from pipeline.params import CleanParams

Rule = Callable[[str], str]

_URL = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_HASHTAG = re.compile(r"(?:^|(?<=\s))#\w+")
_TAG = re.compile(r"</?[a-zA-Z!][^<>]*>")
_SPACE_BEFORE_MARK = re.compile(r"\s+([,.;:!?])(?=\s|$)")
_LONE_MARKS = re.compile(r"(?:^[\s,;:.\-–—|]+)|(?:[\s,;:\-–—|]+$)")

JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiners are letters' business in Persian, Hindi and emoji: they stay."""


def fix_unicode(caption: str) -> str:
    """Undo mojibake (ftfy) and compose characters (NFC); control characters become spaces."""
    fixed = ftfy.fix_text(caption, unescape_html=False, uncurl_quotes=False)
    return "".join(" " if _is_control(c) else c for c in unicodedata.normalize("NFC", fixed))


def strip_html(caption: str) -> str:
    """Drop tags and comments, decode entities (also doubly escaped ones), until nothing changes."""
    while True:
        plain = html.unescape(_without_tags(caption))
        if plain == caption:
            return plain
        caption = plain


def strip_urls(caption: str) -> str:
    """Drop web addresses, e-mail addresses and hashtags."""
    for pattern in (_EMAIL, _URL, _HASHTAG):
        caption = pattern.sub(" ", caption)
    return caption


def strip_phrases(caption: str, phrases: Sequence[str]) -> str:
    """Drop each phrase wherever it stands, whatever its case, with what set it off: `, (…)`."""
    for phrase in phrases:
        pattern = rf"[\s,;:|–—-]*[(\[]?{re.escape(phrase)}[)\]]?"
        caption = re.sub(pattern, " ", caption, flags=re.IGNORECASE)
    return caption


def collapse_space(caption: str) -> str:
    """One space between words, none at the ends nor before a mark; no mark left alone at an end."""
    caption = " ".join(caption.split())
    caption = _SPACE_BEFORE_MARK.sub(r"\1", caption)
    return _LONE_MARKS.sub("", caption)


def in_order(params: CleanParams) -> dict[str, Rule]:
    """The rules that are on, by name, in the order in which they apply."""
    rules: dict[str, tuple[bool, Rule]] = {
        "fix_unicode": (params.fix_unicode, fix_unicode),
        "strip_html": (params.strip_html, strip_html),
        "strip_urls": (params.strip_urls, strip_urls),
        "strip_boilerplate": (
            bool(params.strip_boilerplate),
            partial(strip_phrases, phrases=params.strip_boilerplate),
        ),
        "collapse_space": (True, collapse_space),
    }
    return {name: rule for name, (on, rule) in rules.items() if on}


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Co", "Cs") or (category == "Cf" and character not in JOINERS)


class _Text(HTMLParser):
    """Collects what is not markup; script and style are markup to the end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self._hidden += tag in ("script", "style")
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in ("script", "style")))
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};" if f"{name};" in html.entities.html5 else f"&{name}")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")


def _without_tags(caption: str) -> str:
    """Text outside of tags; a caption without any is left alone, `a < b` included."""
    if not _TAG.search(caption):
        return caption
    parser = _Text()
    parser.feed(caption)
    parser.close()
    return "".join(parser.parts)
