"""Pairs whose caption belongs to another picture, as far as the base model can tell.

A pair's `fit` says how much better its caption suits its picture than it suits others: the cosine
of the pair, less the mean of the caption's cosines with a sample of pictures, over their standard
deviation. Some captions are near to everything, which the plain cosine takes for a good fit.

Shapes: N pairs, S pictures of the sample, D width.
"""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.clip.cache import Ids, Matrix
from pipeline.clip.products import products
from pipeline.clip.store import BLOCK, Embeddings
from pipeline.params import MismatchParams

Values = np.ndarray[Any, np.dtype[np.float32]]

SAMPLE = 512
"""Pictures that a caption is compared with: the mean is then known to 4 % of the deviation."""

LEAST_DEVIATION = 1e-6
REASON = "caption_mismatched"
JUDGED = "train"
"""Only training loses pairs: a test set without what the base finds hard would flatter."""


def compare(
    image_ids: Ids, text_ids: Ids, images: Embeddings, texts: Embeddings
) -> tuple[Values, Values]:
    """Ids of N pairs → N cosines and N fits, both fp32.

    The sample is spread evenly over the sorted ids, which are hashes: it is random with regard to
    what the pictures show, and the same on every run.
    """
    step = max(len(images) // SAMPLE, 1)
    sample = images.rows(np.arange(0, len(images), step)[:SAMPLE])
    mean, deviation = _background(texts, sample)
    cosines = np.empty(len(image_ids), dtype=np.float32)
    fits = np.empty_like(cosines)
    for start in range(0, len(image_ids), BLOCK):
        here = slice(start, start + BLOCK)
        rows = texts.places_of(text_ids[here])
        pictures = images.rows(images.places_of(image_ids[here]))
        cosines[here] = np.einsum("nd,nd->n", pictures, texts.rows(rows))
        fits[here] = (cosines[here] - mean[rows]) / deviation[rows]
    return cosines, fits


def _background(texts: Embeddings, sample: Matrix) -> tuple[Values, Values]:
    """Mean and standard deviation of each caption's cosines with the sample, S×D."""
    mean = np.empty(len(texts), dtype=np.float32)
    deviation = np.empty_like(mean)
    for start, vectors in texts.blocks():
        cosines = products(vectors, sample)
        mean[start : start + len(vectors)] = cosines.mean(axis=1)
        spread = np.maximum(cosines.std(axis=1), LEAST_DEVIATION)
        deviation[start : start + len(vectors)] = spread
    return mean, deviation


def reject(pairs: pd.DataFrame, fits: Values, params: MismatchParams) -> pd.Series:
    """A reason for each training pair to be dropped, or null: N reasons.

    A pair is dropped when its fit is below `drop_below`, or among the least `drop_share` of the
    training pairs' fits (ties go by the pair's number).
    """
    reasons = pd.Series(None, index=pairs.index, dtype=object)
    fit = pd.Series(fits, index=pairs.index)[pairs["split"] == JUDGED]
    if params.drop_below is not None:
        reasons[fit.index[fit < params.drop_below]] = REASON
    worst = fit.sort_values(kind="stable").index[: int(params.drop_share * len(fit))]
    reasons[worst] = REASON
    return reasons
