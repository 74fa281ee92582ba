"""Image-text retrieval, with all captions of an image as its ground truth.

Definitions are CLIP_benchmark's: image → text R@k is the share of images of which any caption is
among the k best texts; text → image R@k is the share of texts whose image is among the k best.

Shapes: N images, M texts, D width of an embedding.
"""

from typing import Any

import numpy as np

from pipeline.clip.products import products

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

KS = (1, 5, 10)
BLOCK = 4096


def text_to_image_ranks(images: Matrix, texts: Matrix, owner: Integers) -> Integers:
    """Rank of each text's own image among all images, 1 the best: M.

    Equal scores rank by position, so that the rank is the same on every run.
    """
    return _ranks(texts, images, owner)


def image_to_text_ranks(images: Matrix, texts: Matrix, owner: Integers) -> Integers:
    """Rank of each image's best-placed caption among all texts, 1 the best: N."""
    blocks = _blocks(len(images))
    return np.concatenate([_caption_ranks(b, images, texts, owner) for b in blocks])


def recalls_at(ranks: Integers, prefix: str) -> dict[str, float]:
    """R@1, R@5 and R@10 of ranks, as shares."""
    return {f"{prefix}_r{k}": float((ranks <= k).mean()) for k in KS}


def recalls(images: Matrix, texts: Matrix, owner: Integers) -> dict[str, float]:
    """R@1/5/10 both ways, and `mean_r1`, their mean at 1."""
    found = {
        **recalls_at(image_to_text_ranks(images, texts, owner), "image_to_text"),
        **recalls_at(text_to_image_ranks(images, texts, owner), "text_to_image"),
    }
    found["mean_r1"] = (found["image_to_text_r1"] + found["text_to_image_r1"]) / 2
    return found


def _blocks(count: int) -> list[Integers]:
    return [np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]


def _ranks(queries: Matrix, items: Matrix, target: Integers) -> Integers:
    """Rank of item `target[q]` for each query q, in blocks of queries."""
    ranks = []
    for rows in _blocks(len(queries)):
        scores = products(queries[rows], items)
        ranks.append(rank_of(scores, target[rows]))
    return np.concatenate(ranks)


def rank_of(scores: Matrix, target: Integers) -> Integers:
    """Rank of each row's target among its scores Q×K, 1 the best; equal ones by position: Q."""
    own = np.take_along_axis(scores, target[:, None], axis=1)
    before = np.arange(scores.shape[1])[None, :] < target[:, None]
    better = (scores > own) | ((scores == own) & before)
    rank: Integers = better.sum(axis=1) + 1
    return rank


def _caption_ranks(rows: Integers, images: Matrix, texts: Matrix, owner: Integers) -> Integers:
    scores = products(images[rows], texts)
    mine = owner[None, :] == rows[:, None]
    best = np.where(mine, scores, -np.inf).argmax(axis=1)
    return rank_of(scores, best)
