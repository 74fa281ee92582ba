"""Zero-shot classification: a class is the mean of its prompts' embeddings.

The method is CLIP's prompt ensemble (Radford et al. 2021, §3.1.4), as CLIP_benchmark scores it. A
class with several names has the prompts of all of them.

Shapes: N images, C classes, D width of an embedding; K rows and C scores of a block.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.evaluation import prompts
from pipeline.evaluation.exact import Floats, Integers, Matrix, products

PROMPTS = 8192
"""Embedded at once, or those of one class."""


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


def ranks(images: Matrix, weights: Matrix, actual: Integers) -> Integers:
    """Rank of each image's own class, 1 the best; equal scores rank by position: N."""
    found, done = [], 0
    for scores_KC in products(images, weights):
        found.append(_rank_of(scores_KC, actual[done : done + len(scores_KC)]))
        done += len(scores_KC)
    return np.concatenate(found)


def predictions(images: Matrix, weights: Matrix) -> tuple[Integers, Matrix]:
    """The best class of each image and its cosine: N, N."""
    blocks = [(s.argmax(axis=1), s.max(axis=1)) for s in products(images, weights)]
    best, cosine = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return best, cosine.astype(np.float32)


def confidences(images: Matrix, weights: Matrix, *, scale: float) -> Floats:
    """The share that each image's best class has of a softmax over `scale` times cosines: N."""
    parts = [
        1 / np.exp(scale * (scores_KC - scores_KC.max(axis=1, keepdims=True))).sum(axis=1)
        for scores_KC in products(images, weights)
    ]
    found: Floats = np.concatenate(parts)
    return found


def _rank_of(scores_KC: Floats, actual: Integers) -> Integers:
    own = np.take_along_axis(scores_KC, actual[:, None], axis=1)
    before = np.arange(scores_KC.shape[1])[None, :] < actual[:, None]
    better = (scores_KC > own) | ((scores_KC == own) & before)
    rank: Integers = better.sum(axis=1) + 1
    return rank
