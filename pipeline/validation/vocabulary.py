"""The words of captions, in every script."""

import unicodedata

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)

_WORD_CHARS = 64
"""More is no word: what memory holds must not follow from the worst caption."""


def word_counts(captions: pd.Series) -> dict[str, int]:
    """Each word of N `captions`, casefolded, and how often it stands there.

    A word is a run of letters, marks and digits. Scripts that are written without spaces between
    words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are counted by the letter.
    """
    if captions.empty:
        return {}
    pieces = pc.value_counts(pc.list_flatten(_pieces(captions)))
    # No piece holds a line end, so all are casefolded and parted from their marks at once.
    lines = "\n".join(pieces.field("values").to_pylist()).casefold().translate(_TABLE).split("\n")
    counts: dict[str, int] = {}
    for line, number in zip(lines, pieces.field("counts").to_pylist(), strict=True):
        for piece in line.split():
            word = piece[:_WORD_CHARS]
            counts[word] = counts.get(word, 0) + number
    return counts


def _pieces(captions: pd.Series) -> pa.Array:
    texts = pa.array(captions, type=pa.string(), from_pandas=True)
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return pc.utf8_split_whitespace(texts)


class _Table(dict[int, str]):
    """For `str.translate`: keeps what makes words and turns the rest to spaces, made as needed."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = unicodedata.category(character)[0] in "LMN"
        alone = any(low <= code <= high for low, high in _WITHOUT_SPACES)
        # A vowel sign (a mark) stays with the letter before it where words have spaces.
        text = f" {character} " if kept and alone else character if kept else " "
        self[code] = text
        return text


_TABLE = _Table({ord("\n"): "\n"})
