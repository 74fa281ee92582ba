"""Zero-shot classification: a class is the mean of its prompts' embeddings.

The method is CLIP's prompt ensemble (Radford et al. 2021, §3.1.4), as CLIP_benchmark scores it.

Shapes: N images, C classes, P prompts a class, D width of an embedding.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.clip.products import products
from pipeline.evaluation.retrieval import Integers, Matrix, rank_of


def class_weights(
    classes: Sequence[str],
    templates: Sequence[str],
    embed: Callable[[list[str]], Matrix],
) -> Matrix:
    """Embeddings of C classes, C×D of unit length; `embed` maps texts to unit vectors."""
    prompts = [template.format(name) for name in classes for template in templates]
    by_class = embed(prompts).reshape(len(classes), len(templates), -1)
    mean = by_class.mean(axis=1)
    weights: Matrix = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return weights


def ranks(images: Matrix, weights: Matrix, actual: Integers) -> Integers:
    """Rank of each image's own class, 1 the best; equal scores rank by position: N."""
    return rank_of(products(images, weights), actual)


def predictions(images: Matrix, weights: Matrix) -> tuple[Integers, Matrix]:
    """The best class of each image and its cosine: N, N."""
    scores = products(images, weights)
    best = scores.argmax(axis=1)
    return best, scores[np.arange(len(best)), best]
