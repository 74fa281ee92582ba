"""The figures of a table as a whole, gathered batch by batch.

Of each accepted row 26 bytes are kept: hashes of its caption, its image and its label, and its
part of the split. All figures follow from these at the end. A hash has 64 bits: two of ten million
captions are confused in one of 400,000 tables.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.data.pairs import SPLITS
from pipeline.validation.examples import EXAMPLES, example, rows_at, shown

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Positions = np.ndarray[Any, np.dtype[np.int64]]

_ODD = np.uint64(0x9E3779B97F4A7C15)
"""Parts a caption's hash from an image's, so that the two as one hash are told by their order."""


@dataclass(frozen=True)
class Figure:
    """A figure, null where there is nothing to measure; the rows it counts, and some of them."""

    value: float | None
    count: int = 0
    examples: Sequence[Mapping[str, Any]] = ()


class Tally:
    """Counts of small whole numbers, from which quantiles are read."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts = np.zeros(1, dtype=np.int64)

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Count `values`, whole numbers from 0."""
        size = max(len(self._counts), int(values.max(initial=0)) + 1)
        grown = np.zeros(size, dtype=np.int64)
        grown[: len(self._counts)] = self._counts
        self._counts = grown + np.bincount(values, minlength=size)

    def quantile(self, share: float) -> int:
        """The least value that at least `share` of all do not exceed; 0 if there are none."""
        reached = np.cumsum(self._counts)
        return int(np.searchsorted(reached, share * reached[-1]))

    def above(self, limit: int) -> int:
        """How many values exceed `limit`."""
        return int(self._counts[limit + 1 :].sum())

    def below(self, limit: int) -> int:
        """How many values are less than `limit`."""
        return int(self._counts[:limit].sum())


class Figures:
    """Gathers what the table-level expectations are about."""

    def __init__(self, *, token_limit: int, few_words: int, many_words: int) -> None:
        """Begin with no rows.

        Captions above `token_limit` tokens are cut by the model; those below `few_words` are short,
        and those above `many_words` long.
        """
        self.words, self.tokens = Tally(), Tally()
        self.reasons: Counter[str] = Counter()
        self.accepted = 0
        self._limit, self._few, self._many = token_limit, few_words, many_words
        self._rejected_first: dict[str, list[dict[str, Any]]] = {}
        self._first_rejected: list[dict[str, Any]] = []
        self._parts: list[tuple[Hashes, Hashes, Hashes, np.ndarray[Any, np.dtype[np.uint8]]]] = []
        self._first: dict[str, list[int]] = {}

    @property
    def rejected(self) -> int:
        """How many rows were rejected."""
        return self.reasons.total()

    @property
    def read(self) -> int:
        """How many rows there were."""
        return self.accepted + self.rejected

    def reject(self, rows: pd.DataFrame) -> None:
        """Count rejected rows: source_row, reason, value."""
        self.reasons.update({str(k): int(n) for k, n in rows["reason"].value_counts().items()})
        first = rows.head(EXAMPLES - len(self._first_rejected))
        said = first["reason"].where(first["value"].isna(), first["reason"] + ": " + first["value"])
        self._first_rejected += map(example, first["source_row"], said)
        for reason, some in rows.groupby("reason"):
            kept = self._rejected_first.setdefault(str(reason), [])
            first = some.head(EXAMPLES - len(kept))
            kept += map(example, first["source_row"], first["value"])

    def accept(self, rows: pd.DataFrame) -> None:
        """Count accepted rows: caption, image_id, label, split, and their words and tokens."""
        tokens, words = rows["tokens"].to_numpy(), rows["words"].to_numpy()
        self.words.add(words)
        self.tokens.add(tokens)
        self._keep_first("truncated", tokens > self._limit)
        self._keep_first("short_captions", words < self._few)
        self._keep_first("long_captions", words > self._many)
        self.accepted += len(rows)
        codes = pd.Categorical(rows["split"], categories=list(SPLITS)).codes + 1
        self._parts.append(
            (
                _hashes(rows["caption"]),
                _hashes(rows["image_id"]),
                _hashes(rows["label"]),
                codes.astype(np.uint8),
            )
        )

    def result(self, pairs_file: Path, *, reasons: Sequence[str]) -> dict[str, Figure]:
        """The figures, with examples from `pairs_file`, which holds the accepted rows in order.

        `reasons` are those of which the share of rejected rows is a figure of its own.
        """
        figures = {
            "accepted": Figure(self.accepted, self.accepted),
            "rejected": self._share_rejected(self.rejected, self._first_rejected),
        }
        for reason in reasons:
            examples = self._rejected_first.get(reason, [])
            figures[f"rejected_for.{reason}"] = self._share_rejected(self.reasons[reason], examples)
        if not self.accepted:
            return figures
        captions, images, labels, parts = (
            np.concatenate(columns) for columns in zip(*self._parts, strict=True)
        )
        told = _Told(pairs_file, self.accepted)
        groups = Groups.of(captions)
        elsewhere = groups.spread_over(images)
        repeated = Groups.of(captions * _ODD ^ images).repeats()
        figures |= {
            "short_captions": told.figure(
                self._firsts("short_captions"), self.words.below(self._few)
            ),
            "long_captions": told.figure(
                self._firsts("long_captions"), self.words.above(self._many)
            ),
            "truncated": told.figure(self._firsts("truncated"), self.tokens.above(self._limit)),
            "repeated": told.figure(repeated, len(repeated)),
            "caption_elsewhere": told.figure(elsewhere, len(elsewhere)),
            "most_frequent_caption": told.figure(groups.largest(), len(groups.largest())),
            "unlabelled": Figure(None),
            "labels_not_in_split": Figure(None),
        }
        if labels.any():
            bare = np.flatnonzero(labels == 0)
            figures["unlabelled"] = told.figure(bare, len(bare), column="image")
            figures["labels_not_in_split"] = _labels_not_in_split(labels, parts, told)
        return figures

    def _keep_first(self, name: str, counted: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Where the first rows of a figure stand among all that were accepted."""
        kept = self._first.setdefault(name, [])
        places = np.flatnonzero(counted)[: EXAMPLES - len(kept)]
        kept += [int(place) + self.accepted for place in places]

    def _firsts(self, name: str) -> Positions:
        return np.array(self._first[name], dtype=np.int64)

    def _share_rejected(self, count: int, examples: Sequence[Mapping[str, Any]]) -> Figure:
        return Figure(rounded(count / self.read), count, examples)


class Groups(NamedTuple):
    """Positions sorted by key, and where in them each group of equal keys starts, and its size.

    Within a group positions ascend.
    """

    order: Positions
    starts: Positions
    sizes: Positions

    @classmethod
    def of(cls, keys: Hashes) -> "Groups":
        """Group the positions of equal keys; at least one key."""
        order = np.argsort(keys, kind="stable")
        in_order = keys[order]
        starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
        return cls(order, starts, np.diff(np.r_[starts, len(keys)]))

    def spread_over(self, values: Hashes) -> Positions:
        """The positions, ascending, of the groups that have more than one of `values`."""
        in_order = values[self.order]
        least = np.minimum.reduceat(in_order, self.starts)
        most = np.maximum.reduceat(in_order, self.starts)
        return np.sort(self.order[np.repeat(least != most, self.sizes)])

    def repeats(self) -> Positions:
        """The positions, ascending, of all but the first of each group."""
        first = np.zeros(len(self.order), dtype=np.bool_)
        first[self.starts] = True
        return np.sort(self.order[~first])

    def largest(self) -> Positions:
        """The positions of the largest group; of equally large ones, of that which begins first."""
        largest = np.flatnonzero(self.sizes == self.sizes.max())
        group = largest[np.argmin(self.order[self.starts[largest]])]
        start = self.starts[group]
        return self.order[start : start + self.sizes[group]]


class _Told(NamedTuple):
    """Shares of the accepted rows, with examples from the file that holds them."""

    file: Path
    accepted: int

    def figure(self, positions: Positions, count: int, *, column: str = "caption") -> Figure:
        """`count` as a share, and the first of `positions`, with what stands in `column`."""
        first = [int(position) for position in positions[:EXAMPLES]]
        rows = rows_at(self.file, first, ["source_row", column])
        examples = [
            example(row, value) for row, value in zip(rows["source_row"], rows[column], strict=True)
        ]
        return Figure(rounded(count / self.accepted), count, examples)


def _labels_not_in_split(labels: Hashes, parts: Any, told: _Told) -> Figure:
    """The share of labels that are missing in a part; null unless there are two parts or more."""
    given = np.flatnonzero((labels != 0) & (parts != 0))
    bits = np.left_shift(np.uint8(1), parts)
    present = int(np.bitwise_or.reduce(bits[parts != 0], initial=np.uint8(0)))
    if present.bit_count() < 2:
        return Figure(None)
    groups = Groups.of(labels[given])
    seen = np.bitwise_or.reduceat(bits[given][groups.order], groups.starts)
    lacking = np.flatnonzero(seen != present)
    firsts = given[groups.order[groups.starts[lacking]]]
    by_place = np.argsort(firsts)[:EXAMPLES]
    rows = rows_at(told.file, [int(first) for first in firsts[by_place]], ["source_row", "label"])
    examples = [
        example(row, f"{shown(label)}: not in {_missing(int(seen[lacking[place]]), present)}")
        for row, label, place in zip(rows["source_row"], rows["label"], by_place, strict=True)
    ]
    return Figure(rounded(len(lacking) / len(seen)), len(lacking), examples)


def _missing(seen: int, present: int) -> str:
    absent = present & ~seen
    return ", ".join(name for code, name in enumerate(SPLITS, start=1) if absent >> code & 1)


def _hashes(values: pd.Series) -> Hashes:
    """A hash for each value, the same for the same text; 0 for null."""
    codes, distinct = pd.factorize(values)
    hashes = pd.util.hash_array(np.asarray(distinct, dtype=object), categorize=False)
    return np.append(hashes, np.uint64(0))[codes]


def rounded(value: float) -> float:
    """Six digits: what is compared with a limit is what is told."""
    return round(value, 6)
