"""Whether a model is as often right as it is sure.

Confidence is the largest share of a softmax over the classes' cosines times the model's own logit
scale. Models trained with a sigmoid loss are read the same way: their bias is the same for each
class, so a softmax does not see it.

Shapes: N images.
"""

from typing import Any, NamedTuple

import numpy as np

from pipeline.evaluation.exact import Floats

BINS = 15

Flags = np.ndarray[Any, np.dtype[np.bool_]]


class Calibration(NamedTuple):
    """What was found.

    Attributes:
        ece: mean distance of confidence and accuracy over the bins, each by its images.
        reliability: a row for each bin that has images: low, high, images, confidence, accuracy.
    """

    ece: float
    reliability: list[dict[str, float]]


def calibration(confidence: Floats, right: Flags) -> Calibration:
    """Expected calibration error in BINS bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    A bin holds its upper edge and not its lower one, as there; both are N.
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64), 1, BINS) - 1
    images = np.bincount(bins, minlength=BINS)
    sure = np.bincount(bins, weights=confidence, minlength=BINS)
    hits = np.bincount(bins, weights=right, minlength=BINS)
    rows = [
        {
            "low": bin_ / BINS,
            "high": (bin_ + 1) / BINS,
            "images": int(images[bin_]),
            "confidence": float(sure[bin_] / images[bin_]),
            "accuracy": float(hits[bin_] / images[bin_]),
        }
        for bin_ in np.flatnonzero(images).tolist()
    ]
    return Calibration(float(np.abs(sure - hits).sum() / len(confidence)), rows)
