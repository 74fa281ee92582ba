"""What no caption should be: empty, too short or long, a file name, a repetition, another language.

Predicates over cleaned captions, and the reason with which the first that holds rejects one.
"""

import re
from itertools import compress

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.captions.languages import check_languages, other_language
from pipeline.data.scripts import UNSPACED, count_words, is_unspaced
from pipeline.params import CleanParams

PARAM_OF = {
    "caption_empty_after_cleaning": None,
    "caption_too_short": "min_words",
    "caption_too_long": "max_words",
    "caption_file_name": "drop_file_names",
    "caption_repetitive": "max_repetition",
    "caption_other_language": "languages",
}
"""Reasons in the order in which they are asked, and the key of `clean` that tunes each."""

REASONS = tuple(PARAM_OF)

SHORTEST_REPETITION = 4
"""Words; fewer are no repetition."""

IN_A_ROW = 6
"""Words in a row that repeat wherever they stood before; fewer may be a phrase used twice."""

_BLOCK = 50_000
_DIGIT = re.compile("[0-9]")
_WORD = re.compile(r"\w+")
_WORD_OR_CHARACTER = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

_IMAGE_ENDING = r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic|heif|avif|svg|psd|dng|cr2|nef|arw|dcm)"
_FILE_NAME = re.compile(
    rf"""
    \S*[\w)]{_IMAGE_ENDING}                           # images/001.png
    |(?:screen[ ]?shot|whatsapp[ ]image|bildschirmfoto|capture[ ]d.écran|captura[ ]de[ ]pantalla
       |photo|image|img|dsc|picture|pic|scan|untitled)
     [\s\d.:,_()\-–]{{0,40}}(?:\b(?:at|um|à)\b)?[\s\d.:,_()\-–]{{0,40}}(?:[ap]m)?[\s\d()]{{0,8}}
     {_IMAGE_ENDING}
    |(?:img|imag|image|dsc|dscn|dscf|dcim|pxl|mvi|vid|gopr|pict|sam|cimg|hpim|scan|photo|pic
       |screenshot)[_-]?\d[\d_\-]{{2,}}(?:[_-]?(?:wa|mp|burst|hdr|edited)\d*){{0,3}}
    |_?(?:mg|dsc)_?\d{{4,}}|p[01]\d{{6}}              # cameras: _MG_1234, P1010123
    |\d{{8}}[_-]?\d{{6,9}}(?:[_-]\d+)?|0\d{{7,}}      # 20190304_120000, 000000123456
    |[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}
    |(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{{16,}}          # a hash
    |\d{{8,}}_[0-9a-f]{{6,}}(?:_[a-z])?               # a photo service's id and secret
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_file_name(caption: str) -> bool:
    """Whether a caption is the name of an image file, or what a camera or a database calls one."""
    if "." not in caption and not _DIGIT.search(caption):
        return False
    return _FILE_NAME.fullmatch(caption.rstrip(" .,;:")) is not None


def repetition(caption: str) -> float:
    """The share of a caption's words that only repeat what it has said, 0…1.

    A word repeats where it says the one, two or three words just before it again ("buy buy", "buy
    now buy now"), or is part of six words in a row that stood anywhere before. After the repetition
    filters of MassiveText (Rae et al. 2021, "Scaling Language Models", table A1), which also count
    pairs of words far apart: that is for pages; a caption may well say "a red star and a blue star
    on a red table", or tell a scene again in other words. Captions of fewer than four words give 0.
    In a script without spaces a character stands for a word, and eight are the fewest.
    """
    words = _words(caption)
    if len(words) < SHORTEST_REPETITION * (2 if is_unspaced(caption) else 1):
        return 0.0
    return sum(_repeated(words)) / len(words)


def drop_reasons(captions: pd.Series, params: CleanParams) -> pd.Series:
    """The first of `REASONS` that holds for each cleaned caption, or null.

    Raises ConfigError where `params.languages` holds an unknown code.
    """
    if params.languages:
        check_languages(params.languages)
    column = pa.array(captions, type=pa.large_string(), from_pandas=True)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = column.dictionary_encode()
    reasons: list[str | None] = []
    for start in range(0, len(encoded.dictionary), _BLOCK):
        reasons += _reasons(encoded.dictionary.slice(start, _BLOCK).to_pylist(), params)
    by_code = np.array([*reasons, None], dtype=object)
    codes = encoded.indices.fill_null(len(reasons)).to_numpy()
    return pd.Series(by_code[codes], index=captions.index, dtype=object)


def _reasons(captions: list[str], params: CleanParams) -> list[str | None]:
    found = [_reason(caption, params) for caption in captions]
    if params.languages:
        left = [place for place, reason in enumerate(found) if reason is None]
        other = other_language((captions[place] for place in left), keep=params.languages)
        for place in compress(left, other):
            found[place] = "caption_other_language"
    return found


def _reason(caption: str, params: CleanParams) -> str | None:
    """The reasons that a caption gives by itself; its language is asked for many at once."""
    if not caption.strip():
        return "caption_empty_after_cleaning"
    words = count_words(caption)
    if words < params.min_words:
        return "caption_too_short"
    if words > params.max_words:
        return "caption_too_long"
    if params.drop_file_names and is_file_name(caption):
        return "caption_file_name"
    if params.max_repetition is not None and _is_repetitive(caption, params.max_repetition):
        return "caption_repetitive"
    return None


def _is_repetitive(caption: str, most: float) -> bool:
    """Whether repetition(caption) > most; most captions need no closer look.

    Each word that repeats has stood before, so there are no more than words beyond the distinct.
    """
    words = _words(caption)
    return len(words) - len(set(words)) > most * len(words) and repetition(caption) > most


def _words(caption: str) -> list[str]:
    return (_WORD if caption.isascii() else _WORD_OR_CHARACTER).findall(caption.casefold())


def _repeated(words: list[str]) -> list[bool]:
    """For each word, whether it only repeats."""
    repeated = [False] * len(words)
    seen: set[tuple[str, ...]] = set()
    for end in range(1, len(words) + 1):
        for size in (1, 2, 3):
            if end >= 2 * size and words[end - size : end] == words[end - 2 * size : end - size]:
                repeated[end - size : end] = [True] * size
        row = tuple(words[max(end - IN_A_ROW, 0) : end])
        if row in seen:
            repeated[end - IN_A_ROW : end] = [True] * IN_A_ROW
        elif len(row) == IN_A_ROW:
            seen.add(row)
    return repeated
