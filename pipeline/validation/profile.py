"""What the data look like as a whole: counts and histograms, made batch by batch.

A profile is JSON of whole numbers alone, so it is the same on every machine. Its shape is
`Profile`; docs/design.md says what it is compared with.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from pipeline.data.scripts import count_words
from pipeline.validation.counting import TopCounts
from pipeline.validation.vocabulary import word_counts

VERSION = 1
WORDS_KEPT = 2000
LABELS_KEPT = 1000

CAPTIONS = (1, 2, 3, 4, 5, 6, 11, 21)
WORDS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 128)
TOKENS = (0, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 78, 128, 256)
SIDES = (0, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096)
"""Pixels: half octaves, 2^(k/2)."""
ASPECTS = (0, 34, 51, 67, 76, 95, 106, 134, 151, 200, 300)
"""Width in per cent of height, parted at 1:3, 1:2, 2:3, 3:4, nearly square, 4:3, 3:2, 2:1, 3:1."""
BRIGHTNESS = tuple(range(0, 256, 16))

_NAME_CHARS = 200


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Histogram(_Part):
    """`counts[i]` values lie from `edges[i]` to below `edges[i + 1]`; the last bin has no end."""

    edges: list[int]
    counts: list[int]


class Vocabulary(_Part):
    """The most frequent words. A count lacks `forgotten` at most; `distinct` may be estimated."""

    total: int
    distinct: int
    forgotten: int
    words: dict[str, int]


class Labels(_Part):
    """Pairs by label, the most frequent ones; `rest` counts pairs of others, `none` of no label."""

    distinct: int
    counts: dict[str, int]
    rest: int
    none: int


class Profile(_Part):
    """The profile as JSON holds it. `tokens` is null where they were not counted."""

    version: int
    rows: int
    images: int
    captions_per_image: Histogram
    words: Histogram
    tokens: Histogram | None
    vocabulary: Vocabulary
    labels: Labels
    splits: dict[str, int]
    image_side: Histogram
    aspect: Histogram
    brightness: Histogram
    formats: dict[str, int]


class ProfileBuilder:
    """Gathers a profile from batches; keeps 8 bytes a row and a bounded table of words and labels.

    Counts are exact up to half a million different words and as many labels (see `TopCounts`).
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rows = 0
        self._images = 0
        self._image_of_row: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._words = _Bins(WORDS)
        self._tokens: _Bins | None = None
        self._sides, self._aspects = _Bins(SIDES), _Bins(ASPECTS)
        self._brightness = _Bins(BRIGHTNESS)
        self._vocabulary, self._labels = TopCounts(), TopCounts()
        self._splits: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()

    def add(self, accepted: pd.DataFrame, images: pd.DataFrame) -> None:
        """Add accepted pairs and the images that are new with them.

        `accepted` has PAIR's columns, and may have `words` and `tokens` of each caption; without
        `words`, spaces are counted. `images` has IMAGE's columns, each image once over all calls.
        """
        if len(accepted):
            self._add_pairs(accepted)
        self._images += len(images)
        width, height = images["width"].to_numpy(), images["height"].to_numpy()
        self._sides.add(np.minimum(width, height))
        self._aspects.add(width.astype(np.int64) * 100 // np.maximum(height, 1))
        self._brightness.add(images["brightness"].to_numpy())
        self._formats.update(_counted(images["format"]))

    def result(self) -> dict[str, Any]:
        """The profile of all that was added, in the shape of `Profile`."""
        return {
            "version": VERSION,
            "rows": self._rows,
            "images": self._images,
            "captions_per_image": self._captions_per_image(),
            "words": self._words.result(),
            "tokens": None if self._tokens is None else self._tokens.result(),
            "vocabulary": {
                "total": self._vocabulary.total,
                "distinct": self._vocabulary.distinct,
                "forgotten": self._vocabulary.forgotten,
                "words": self._vocabulary.top(WORDS_KEPT),
            },
            "labels": self._label_counts(),
            "splits": dict(sorted(self._splits.items())),
            "image_side": self._sides.result(),
            "aspect": self._aspects.result(),
            "brightness": self._brightness.result(),
            "formats": dict(sorted(self._formats.items())),
        }

    def _add_pairs(self, accepted: pd.DataFrame) -> None:
        self._rows += len(accepted)
        # Eight bytes tell images apart well enough to count by, and are few enough to keep.
        codes, ids = pd.factorize(accepted["image_id"])
        hashes = pd.util.hash_array(np.asarray(ids, dtype=object), categorize=False)
        self._image_of_row.append(hashes[codes])
        captions = accepted["caption"]
        words = accepted["words"] if "words" in accepted else map(count_words, captions)
        self._words.add(np.fromiter(words, dtype=np.int64, count=len(captions)))
        if "tokens" in accepted:
            self._tokens = self._tokens or _Bins(TOKENS)
            self._tokens.add(accepted["tokens"].to_numpy())
        self._vocabulary.add(word_counts(captions))
        self._labels.add(_counted(accepted["label"]))
        self._splits.update(_counted(accepted["split"]))

    def _captions_per_image(self) -> dict[str, list[int]]:
        bins = _Bins(CAPTIONS)
        if self._image_of_row:
            bins.add(np.unique(np.concatenate(self._image_of_row), return_counts=True)[1])
        return bins.result()

    def _label_counts(self) -> dict[str, Any]:
        counts = self._labels.top(LABELS_KEPT)
        return {
            "distinct": self._labels.distinct,
            "counts": counts,
            "rest": self._labels.total - sum(counts.values()),
            "none": self._rows - self._labels.total,
        }


class _Bins:
    """A histogram in the making; values below the first edge count in the first bin."""

    def __init__(self, edges: Sequence[int]) -> None:
        self._edges = np.array(edges)
        self._counts = np.zeros(len(edges), dtype=np.int64)

    def add(self, values: np.ndarray[Any, Any]) -> None:
        places = np.searchsorted(self._edges, values, side="right") - 1
        self._counts += np.bincount(np.maximum(places, 0), minlength=len(self._counts))

    def result(self) -> dict[str, list[int]]:
        return {"edges": self._edges.tolist(), "counts": self._counts.tolist()}


def _counted(values: pd.Series) -> Counter[str]:
    """How often each value stands there, long ones cut; nulls are left out."""
    counts: Counter[str] = Counter()
    for value, count in values.value_counts().items():
        counts[str(value)[:_NAME_CHARS]] += int(count)
    return counts
