"""Image-text retrieval both ways, with all that belongs to a query as its ground truth.

Texts that are equal but for case, space and end dot share their images, as twins do in training: a
text finds any image that carries such a caption, an image any text equal to one of its own. Equal
strings are one text to be found; as queries each counts. Where each caption is unique, definitions
are CLIP_benchmark's: image → text R@k is the share of images of which any caption is among the k
best texts; text → image R@k is the share of texts whose image is among the k best.

With several items that belong to a query: R@k, median rank and MRR (the mean of 1 / rank) go by the
best placed of them, and mAP by all: a query's average precision is the mean over its items of the
share of hits up to there, over the whole ranking (Manning, Raghavan & Schütze 2008, §8.4).

Shapes: N images, M captions, U texts, P pairs of an image and a text, Q queries, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.data.pairs import caption_key
from pipeline.evaluation.exact import Floats, Integers, Matrix, finite
from pipeline.evaluation.ranks import Pairs, pair_ranks

KS = (1, 5, 10)
WAYS = ("image_to_text", "text_to_image")
RECALLS = (*(f"{way}_r{k}" for way in WAYS for k in KS), "mean_r1")


class Texts(NamedTuple):
    """The texts of M captions.

    Attributes:
        distinct: U strings, in the order in which they first occur.
        of_caption: which of them each caption is, M.
        key: of each, a number that texts equal to a reader share, U.
    """

    distinct: list[str]
    of_caption: Integers
    key: Integers


class Queries(NamedTuple):
    """Of Q queries: the rank of the best placed item, 1 the best, and the average precision."""

    best: Integers
    precision: Floats


def distinct_texts(captions: Sequence[str]) -> Texts:
    """Which of M captions are equal, as strings and to a reader."""
    of_caption, distinct = pd.factorize(np.asarray(captions, dtype=object))
    key = pd.factorize(np.array([caption_key(text) for text in distinct], dtype=object))[0]
    return Texts(list(distinct), of_caption.astype(np.int64), key.astype(np.int64))


def belonging(owner: Integers, texts: Texts) -> Pairs:
    """Which of the U texts belong to which image, from the image of each of M captions."""
    carried = pd.DataFrame({"image": owner, "key": texts.key[texts.of_caption]}).drop_duplicates()
    same = pd.DataFrame({"key": texts.key, "text": np.arange(len(texts.key))})
    found = carried.merge(same, on="key").sort_values(["image", "text"])
    return Pairs(found["image"].to_numpy(np.int64), found["text"].to_numpy(np.int64))


def of_queries(query: Integers, ranks: Integers) -> Queries:
    """From each pair's query and rank, P and P, to queries 0…Q−1, each of which has a pair."""
    order = np.lexsort((ranks, query))
    query, ranks = query[order], ranks[order]
    first = np.flatnonzero(np.r_[True, query[1:] != query[:-1]])
    counts = np.diff(np.r_[first, len(query)])
    hits = np.arange(len(query)) - np.repeat(first, counts) + 1
    return Queries(ranks[first], np.add.reduceat(hits / ranks, first) / counts)


def recalls(images: Matrix, texts: Matrix, owner: Integers) -> dict[str, float]:
    """R@1/5/10 both ways, and `mean_r1`, their mean at 1; each of M texts stands for itself.

    Equal scores rank by position, so that a rank is the same on every run. Embeddings that are not
    finite find nothing.
    """
    if not (finite(images) and finite(texts)):
        return dict.fromkeys(RECALLS, 0.0)
    ranks = pair_ranks(images, texts, Pairs(owner, np.arange(len(owner))))
    found = {
        **recalls_at(of_queries(owner, ranks.text).best, "image_to_text"),
        **recalls_at(ranks.image, "text_to_image"),
    }
    found["mean_r1"] = (found["image_to_text_r1"] + found["text_to_image_r1"]) / 2
    return found


def recalls_at(ranks: Integers, prefix: str) -> dict[str, float]:
    """R@1, R@5 and R@10 of ranks, as shares."""
    return {f"{prefix}_r{k}": float((ranks <= k).mean()) for k in KS}
