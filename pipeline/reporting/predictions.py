"""What a model says of pictures, for the terminal and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.data.pictures import Unread
from pipeline.evaluation.likeliest import Prediction
from pipeline.reporting.comparison import percent
from pipeline.reporting.svg import printable

_NAME_CHARS = 60
_IMAGE_CHARS = 120


def as_text(predictions: Sequence[Prediction]) -> str:
    """Of each picture its name and a line a class; no name can steer the terminal."""
    return "\n\n".join(map(_of_picture, predictions))


def as_json(predictions: Sequence[Prediction], unread: Sequence[Unread]) -> str:
    """A JSON object a file, one a line, in ASCII: a name may hold what no terminal should."""
    lines: list[dict[str, Any]] = [
        {
            "image": one.image,
            "labels": [
                {"class": name, "probability": probability, "cosine": cosine}
                for name, probability, cosine in one.labels
            ],
        }
        for one in predictions
    ]
    lines += [{"image": one.name, "unread": one.why} for one in unread]
    return "\n".join(map(json.dumps, lines))


def _of_picture(one: Prediction) -> str:
    lines = [
        f"  {percent(label.probability):>7}  {printable(label.name, _NAME_CHARS)}"
        for label in one.labels
    ]
    return "\n".join([printable(one.image, _IMAGE_CHARS), *lines])
