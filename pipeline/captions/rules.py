"""Caption rules: one small function each, text in, text out. Cleaning twice is cleaning once."""

import re
import unicodedata
from collections.abc import Callable, Sequence

import ftfy
from ftfy.badness import is_bad

from pipeline.captions.markup import strip_html
from pipeline.captions.phones import strip_phones
from pipeline.captions.phrases import anywhere, at_an_end, has_word
from pipeline.data.scripts import SOUTH_EAST_ASIAN, UNSPACED
from pipeline.errors import ConfigError
from pipeline.params import CleanParams

Rule = Callable[[str], str]

MOJIBAKE = ftfy.TextFixerConfig(
    unescape_html=False,  # strip_html's business
    uncurl_quotes=False,
    fix_character_width=False,  # wide marks are the proper ones in Chinese and Japanese
    remove_control_chars=False,  # it leaves no space between the words
    explain=False,
)
_CONTROLS = "\x00-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_UNSEEN = "\u00ad\u2060-\u2064\u202a-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
_INVISIBLE = re.compile(
    f"[{_UNSEEN}]|(?P<flag>\U0001f3f4[\U000e0020-\U000e007f]+)|[\U000e0000-\U000e007f]"
)
"""Soft hyphens, byte order marks, overrides of the writing direction, hidden tags. Not: joiners and
direction marks, which are ordinary letters' business in Persian, Arabic, Hindi and emoji, and tags
behind a black flag, which make the flag of Scotland."""
_LIGATURES = "\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06"
_TO_FIX = re.compile(f"[{_CONTROLS}{_UNSEEN}{_LIGATURES}\u200b\u2028\u2029\U000e0000-\U000e007f]")
_ZERO_WIDTH_SPACE = re.compile(
    f"(?<![{SOUTH_EAST_ASIAN}\u200b])\u200b++|\u200b++(?![{SOUTH_EAST_ASIAN}])"
)

_LETTER = rf"[^\W{UNSPACED}]"
_EMAIL = re.compile(
    rf"(?:(?<!\w)mailto:)?(?<!{_LETTER})(?<![.+-])(?:{_LETTER}|[.+-])+@"
    rf"{_LETTER}+(?:-+{_LETTER}+)*(?:\.{_LETTER}+(?:-+{_LETTER}+)*)+",
    re.IGNORECASE,
)
_IN_ADDRESS = rf"[^\s<>\"“”{UNSPACED}\u3000-\u303f\uff00-\uffef]"
_URL = re.compile(rf"(?<!{_LETTER})(?:(?:https?|ftp)://|www\.){_IN_ADDRESS}*", re.IGNORECASE)
_BARE_DOMAIN = re.compile(
    r"(?<![\w@.\-/])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:com|org|co\.uk|(?-i:net))(?![\w@-]|\.\w)"
    rf"(?:[/?]{_IN_ADDRESS}*)?",
    re.IGNORECASE,
)
"""`ASP.NET` is none."""
_INNER_DOT = re.compile(r"\w\.\w")
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"))
_AFTER_ADDRESS = ".,;:!?'’»…"
_HANDLE = re.compile(
    rf"(?<!{_LETTER})(?<![&@#＠＃/=?%.+\-])"
    r"(?:[@＠]\w*[^\W\d]\w*(?:\.\w+)*|[#＃]\w*[^\W\d_]\w*)+"
)

_SPACE_BEFORE_MARK = re.compile(r" ([,.!?](?= |$)|[)\]])")
_CHEROKEE = re.compile("[\u13a0-\u13f5]")
_LONE_MARKS = (" ,", " .", " !", " ?", " )", " ]")
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]|\{\s*\}")
_FIRST_MARKS = re.compile(r"^[.\-][.\-\s]*(?:\s|$)")
_LAST_DASH = re.compile(r"(?:^|\s)-[-\s]*$")
_LONE = " ,;:|–—、，；：｜"


def fix_unicode(caption: str) -> str:
    """Undo mojibake (ftfy), compose characters (NFC), drop control and invisible ones.

    A control character leaves a space behind. A zero-width space becomes one, except in Thai, Lao,
    Khmer and Burmese, where it parts words that are written without spaces.
    """
    while not _is_sound(caption):
        text = _CONTROL.sub(" ", ftfy.fix_text(caption, MOJIBAKE))
        text = _INVISIBLE.sub(_flag, text)
        if "\u200b" in text:
            text = _ZERO_WIDTH_SPACE.sub(" ", text)
        text = unicodedata.normalize("NFC", text)
        if text == caption:
            break
        caption = text
    return caption


def strip_urls(caption: str) -> str:
    """Drop web addresses (with a scheme, www, or a common domain) and e-mail addresses."""
    if "@" in caption:
        caption = _EMAIL.sub(" ", caption)
    if "://" in caption or "www." in caption.lower():
        caption = _URL.sub(_after_address, caption)
    if 0 <= caption.find(".") < len(caption) - 1 and _INNER_DOT.search(caption):
        caption = _BARE_DOMAIN.sub(_after_address, caption)
    return caption


def strip_handles(caption: str) -> str:
    """Drop @names and #tags; a number sign (`#12`) and e-mail addresses stay."""
    if caption.isascii() and "@" not in caption and "#" not in caption:
        return caption
    return _HANDLE.sub(" ", caption)


def unshout(caption: str) -> str:
    """Lower-case a caption of several words that are all capitals; one may be a name (NASA).

    Cherokee is written in what Unicode counts as capitals, and stays.
    """
    if not caption.isupper() or " " not in caption.strip() or _CHEROKEE.search(caption):
        return caption
    return caption.lower()


def collapse_space(caption: str) -> str:
    """One space between words, none at the ends nor before a mark; no mark left alone at an end.

    Brackets that hold nothing go too.
    """
    caption = " ".join(caption.split())
    while True:
        plain = caption.strip(_LONE)
        if "(" in plain or "[" in plain or "{" in plain:
            plain = _EMPTY_BRACKETS.sub(" ", plain)
        if _has_lone_mark(plain):
            plain = _SPACE_BEFORE_MARK.sub(r"\1", plain)
        if plain[:1] in (".", "-"):
            plain = _FIRST_MARKS.sub("", plain)
        if plain[-1:] == "-":
            plain = _LAST_DASH.sub("", plain)
        if plain == caption:
            return plain
        caption = " ".join(plain.split())


def in_order(params: CleanParams, *, frequent: Sequence[str] = ()) -> dict[str, Rule]:
    """The rules that are on, by name, in the order in which they apply.

    `frequent` are the phrases that `frequent_phrases` found. Raises ConfigError for a phrase in
    `clean.strip_boilerplate` that holds no word.
    """
    boilerplate = params.strip_boilerplate
    for phrase in boilerplate:
        if not has_word(phrase):
            raise ConfigError(
                f"`clean.strip_boilerplate` holds {phrase!r}: remove it, it has no word"
            )
    before: dict[str, Rule | None] = {
        "fix_unicode": fix_unicode if params.fix_unicode else None,
        "strip_html": strip_html if params.strip_html else None,
        "strip_urls": strip_urls if params.strip_urls else None,
        "strip_phones": strip_phones if params.strip_phones else None,
        "strip_handles": strip_handles if params.strip_handles else None,
        "strip_boilerplate": anywhere(boilerplate) if boilerplate else None,
    }
    earlier = [rule for rule in before.values() if rule is not None]
    left = [
        phrase for phrase in (_through(phrase, earlier) for phrase in frequent) if has_word(phrase)
    ]
    rules = before | {
        "strip_frequent": at_an_end(left) if left else None,
        "casing": {"keep": None, "lower": str.lower, "unshout": unshout}[params.casing],
        "collapse_space": collapse_space if params.collapse_space else None,
    }
    return {name: rule for name, rule in rules.items() if rule is not None}


def _through(phrase: str, rules: Sequence[Rule]) -> str:
    """What is left of a phrase, found in raw captions, where these rules have gone before."""
    for rule in rules:
        phrase = rule(phrase)
    return phrase


def _is_sound(caption: str) -> bool:
    """Whether fix_unicode would change nothing; ten times as fast as to find out by ftfy."""
    if caption.isascii():
        return caption.isprintable()
    return (
        not _TO_FIX.search(caption)
        and unicodedata.is_normalized("NFC", caption)
        and not is_bad(caption)
    )


def _flag(found: re.Match[str]) -> str:
    return found["flag"] or ""


def _has_lone_mark(caption: str) -> bool:
    return any(mark in caption for mark in _LONE_MARKS)


def _after_address(address: re.Match[str]) -> str:
    """What of a match is no part of the address: the sentence's mark, the bracket around it."""
    text = address.group()
    kept = text.rstrip(_AFTER_ADDRESS)
    while any(
        kept.endswith(shut) and kept.count(shut) > kept.count(open_) for open_, shut in _PAIRS
    ):
        kept = kept[:-1].rstrip(_AFTER_ADDRESS)
    return " " + text[len(kept) :]
