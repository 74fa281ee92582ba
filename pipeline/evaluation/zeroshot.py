"""Zero-shot classification: a class is the mean of its prompts' embeddings.

The method is CLIP's prompt ensemble (Radford et al. 2021, §3.1.4), as CLIP_benchmark scores it. A
class with several names has the prompts of all of them.

Shapes: N images, C classes, D width of an embedding; K rows and C scores of a block.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.evaluation import prompts
from pipeline.evaluation.exact import Floats, Integers, Matrix, products

PROMPTS = 8192
"""Embedded at once, or those of one class."""


class Answers(NamedTuple):
    """Of N images.

    Attributes:
        best: the class that is nearest, N.
        cosine: of the image and that class, N.
        confidence: the share that class has of a softmax over all, N.
        rank: of the image's own class, 1 the best; 0 for an image without a class, N.
    """

    best: Integers
    cosine: Matrix
    confidence: Floats
    rank: Integers


def class_weights(
    classes: Sequence[str],
    templates: Sequence[str],
    embed: Callable[[list[str]], Matrix],
    *,
    synonyms: Mapping[str, Sequence[str]] | None = None,
) -> Matrix:
    """Embeddings of C classes, C×D of unit length; `embed` maps texts to unit vectors.

    `synonyms`: other names of some of the classes. DataError for two names that are the same.
    """
    names = prompts.names(classes, synonyms or {})
    step = max(1, PROMPTS // (len(templates) * max(map(len, names))))
    parts = [
        _weights(names[start : start + step], templates, embed)
        for start in range(0, len(names), step)
    ]
    return np.concatenate(parts)


def _weights(
    names: Sequence[Sequence[str]],
    templates: Sequence[str],
    embed: Callable[[list[str]], Matrix],
) -> Matrix:
    by_class = [prompts.filled(templates, some) for some in names]
    vectors = embed([prompt for some in by_class for prompt in some])
    ends = np.cumsum([len(some) for some in by_class])
    mean = np.stack([part.mean(axis=0) for part in np.split(vectors, ends[:-1])])
    weights: Matrix = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return weights


def answers(images: Matrix, weights: Matrix, *, actual: Integers, scale: float) -> Answers:
    """What a model answers for each of N images among C classes, each product taken once.

    `actual`: N, the class of an image, or −1; `scale`: what the model multiplies cosines by.
    Equal scores rank by position.
    """
    blocks, done = [], 0
    for scores_KC in products(images, weights):
        blocks.append(_answers(scores_KC, actual[done : done + len(scores_KC)], scale))
        done += len(scores_KC)
    return Answers(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _answers(scores_KC: Floats, actual: Integers, scale: float) -> Answers:
    best = scores_KC.argmax(axis=1)
    cosine = np.take_along_axis(scores_KC, best[:, None], axis=1)
    confidence = 1 / np.exp(scale * (scores_KC - cosine)).sum(axis=1)
    rank = np.where(actual >= 0, _rank_of(scores_KC, actual), 0)
    return Answers(best, cosine[:, 0].astype(np.float32), confidence, rank)


def _rank_of(scores_KC: Floats, actual: Integers) -> Integers:
    own = np.take_along_axis(scores_KC, actual[:, None], axis=1)
    before = np.arange(scores_KC.shape[1])[None, :] < actual[:, None]
    better = (scores_KC > own) | ((scores_KC == own) & before)
    rank: Integers = better.sum(axis=1) + 1
    return rank
