"""The metrics that are told first, and the one that speaks for a set; imports nothing."""

from collections.abc import Container

ACCURACY = "top1"
FIND_CAPTION = "image_to_text_r1"
FIND_PICTURE = "text_to_image_r1"

HEADLINES = (ACCURACY, FIND_CAPTION, FIND_PICTURE)
"""The metrics that a summary shows."""


def headline(metrics: Container[str]) -> str:
    """Of the metrics of a set: accuracy where there are labels, else finding captions."""
    return ACCURACY if ACCURACY in metrics else FIND_CAPTION
