"""Caption rules applied to a column: what became of it, and what each rule changed."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.captions.rules import Rule

EXAMPLES = 3
ROUNDS = 20
"""What one rule leaves may be work for an earlier one (an entity that spells mojibake), so captions
go through all of them until none changes them. Three rounds are rare; the limit is for safety."""

_BLOCK = 50_000

Changes = dict[int, tuple[str, str]]
Positions = np.ndarray[Any, np.dtype[np.int64]]


class Example(NamedTuple):
    """A caption before and after one rule; `position` counts the captions given, from 0."""

    position: int
    before: str
    after: str


def apply_rules(
    captions: pd.Series, rules: Mapping[str, Rule]
) -> tuple[pd.Series, dict[str, int], dict[str, list[Example]]]:
    """Apply `rules` in order, and over again until none changes anything.

    Returns the captions, how many each rule changed, and the first three examples by rule. Each
    distinct caption is cleaned once, in blocks, so that memory holds little beside the two columns.
    """
    encoded = _column(captions).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    times = np.bincount(codes[codes >= 0], minlength=len(encoded.dictionary))
    position = _first_positions(codes, len(encoded.dictionary))
    changed = dict.fromkeys(rules, 0)
    examples: dict[str, list[Example]] = {name: [] for name in rules}
    blocks = [pa.array([], type=pa.large_string())]
    for start in range(0, len(encoded.dictionary), _BLOCK):
        cleaned, changes = _clean(encoded.dictionary.slice(start, _BLOCK).to_pylist(), rules)
        blocks.append(pa.array(cleaned, type=pa.large_string()))
        for name, by_place in changes.items():
            changed[name] += sum(int(times[start + place]) for place in by_place)
            for place in sorted(by_place)[: EXAMPLES - len(examples[name])]:
                before, after = by_place[place]
                examples[name].append(Example(int(position[start + place]), before, after))
    cleaned_column = pa.chunked_array(blocks).combine_chunks().take(encoded.indices)
    dtype = captions.dtype if isinstance(captions.dtype, pd.StringDtype) else object
    result = pd.Series(cleaned_column.to_pandas(), dtype=dtype)
    result.index, result.name = captions.index, captions.name
    return result, changed, examples


def clean_caption(caption: str, rules: Mapping[str, Rule]) -> str:
    """One caption, cleaned as `apply_rules` does it."""
    return _clean([caption], rules)[0][0]


def _clean(captions: list[str], rules: Mapping[str, Rule]) -> tuple[list[str], dict[str, Changes]]:
    """The captions, cleaned, and what each rule first changed."""
    captions = list(captions)
    changes: dict[str, Changes] = {name: {} for name in rules}
    places: Collection[int] = range(len(captions))
    for _ in range(ROUNDS):
        again: set[int] = set()
        for name, rule in rules.items():
            for place in places:
                before = captions[place]
                after = rule(before)
                if after != before:
                    captions[place] = after
                    changes[name].setdefault(place, (before, after))
                    again.add(place)
        places = again
    return captions, changes


def _column(captions: pd.Series) -> pa.Array:
    column = pa.array(captions, type=pa.large_string(), from_pandas=True)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _first_positions(codes: np.ndarray[Any, np.dtype[np.int32]], size: int) -> Positions:
    """Where each code stands first; -1 codes are nulls."""
    first = np.full(size, len(codes), dtype=np.int64)
    present = np.flatnonzero(codes >= 0)
    np.minimum.at(first, codes[present], present)
    return first
