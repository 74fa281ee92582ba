"""How each class fares, and what accuracy would be without looking.

Shapes: N images that have a label, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.exact import Integers


def per_class(actual: Integers, said: Integers, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each of C classes, from the class of each of N images and what was said, N.

    class; images; said: images of which it was said; right: of its own; recall: right of images,
    null without any; precision: right of said, likewise; mistaken_for: the most common wrong answer
    for its images (the first by name of several), null without any; mistaken: how often.
    """
    count = len(classes)
    images = np.bincount(actual, minlength=count)
    answers = np.bincount(said, minlength=count)
    right = np.bincount(actual[actual == said], minlength=count)
    wrong = _most_common_wrong(actual, said, count)
    return [
        {
            "class": name,
            "images": int(images[i]),
            "said": int(answers[i]),
            "right": int(right[i]),
            "recall": _share(right[i], images[i]),
            "precision": _share(right[i], answers[i]),
            "mistaken_for": classes[wrong[i][0]] if i in wrong else None,
            "mistaken": wrong[i][1] if i in wrong else 0,
        }
        for i, name in enumerate(classes)
    ]


def majority(actual: Integers, classes: Sequence[str]) -> dict[str, Any]:
    """The most frequent class, and its share: the accuracy of saying it each time."""
    images = np.bincount(actual, minlength=len(classes))
    most = int(images.argmax())
    return {"class": classes[most], "share": float(images[most] / len(actual))}


def without_images(actual: Integers, classes: Sequence[str]) -> list[str]:
    """The classes that no image has."""
    images = np.bincount(actual, minlength=len(classes))
    return [name for name, some in zip(classes, images, strict=True) if not some]


def _share(some: int, all_: int) -> float | None:
    return float(some / all_) if all_ else None


def _most_common_wrong(actual: Integers, said: Integers, count: int) -> dict[int, tuple[int, int]]:
    """Of each class that was mistaken, the class for which most often, and how often."""
    wrong = actual != said
    cells, times = np.unique(actual[wrong] * count + said[wrong], return_counts=True)
    found: dict[int, tuple[int, int]] = {}
    for cell, often in zip(cells.tolist(), times.tolist(), strict=True):
        class_, answer = divmod(cell, count)
        if class_ not in found or often > found[class_][1]:
            found[class_] = (answer, often)
    return found
