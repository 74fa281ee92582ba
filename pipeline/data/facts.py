"""What is found of an image's bytes: a function of the bytes, and of the limits to decode within.

Imports Pillow alone, for worker processes start with it.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from pipeline.data.images import (
    SIDEWAYS,
    UnsupportedModeError,
    opened,
    orientation,
    reduce,
    to_rgb,
    upright,
)
from pipeline.data.signatures import SIDE, signature

if TYPE_CHECKING:  # params.py imports pydantic, which a worker process can do without
    from pipeline.params import ValidateParams

LEAST_SIDE = 7 * SIDE // 4
"""Pixels a side that a JPEG keeps when it is reduced for its signature: fewer cost precision."""

_ADDRESS = re.compile(r"\s*<[\w.]+ object at 0x[0-9a-f]+>")
_SAID = 200

LASTING = frozenset({None, "image_truncated", "image_unreadable", "image_mode_unsupported"})
"""Problems that follow from the bytes alone; others depend on limits or on the machine."""


class ImageFacts(NamedTuple):
    """What was found of an image: its facts, or else the `problem` (a reason) and its `value`.

    `width` and `height` are pixels of the upright picture (of the file's header where a problem
    kept it from being turned), `mode` is how the file holds them, `brightness` the mean grey
    level of the signature, 0…255.
    """

    image_id: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    brightness: float = 0.0
    signature: bytes = b""
    problem: str | None = None
    value: str | None = None


def examine(content: bytes, image_id: str, *, max_pixels: int) -> ImageFacts:
    """Decode the whole picture; what is wrong comes back as a problem.

    A large JPEG is rebuilt at 1/2, 1/4 or 1/8 of its size, as no more is needed of it here. Its
    file is decoded to the last coefficient all the same, which is where a broken one breaks.
    """
    width = height = 0
    try:
        with opened(content) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                return _too_many_pixels(ImageFacts(image_id, width, height))
            reduce(picture, (LEAST_SIDE, LEAST_SIDE))
            picture.load()
            kind, mode = str(picture.format), picture.mode
            if orientation(picture) in SIDEWAYS:
                width, height = height, width
            marks = signature(to_rgb(upright(picture)))
    except UnsupportedModeError as error:
        return ImageFacts(
            image_id, width, height, problem="image_mode_unsupported", value=f"mode {error}"
        )
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes
        return ImageFacts(
            image_id, width, height, problem=_problem(error, content), value=_said(error)
        )
    return ImageFacts(
        image_id=image_id,
        width=width,
        height=height,
        format=kind,
        mode=mode,
        brightness=round(sum(marks[: SIDE * SIDE]) / SIDE**2, 3),
        signature=marks,
    )


def judge(facts: ImageFacts, limits: ValidateParams) -> ImageFacts:
    """The facts, with the problem that the limits make of them.

    The number of pixels comes first, as it did when the picture was opened: what is said of a
    picture must not depend on the limits under which it was once decoded.
    """
    if facts.width * facts.height > limits.max_pixels:
        return _too_many_pixels(facts)
    if facts.problem is not None:
        return facts
    short, long = min(facts.width, facts.height), max(facts.width, facts.height)
    if short >= limits.min_side and long <= limits.max_aspect * short:
        return facts
    problem = "image_too_small" if short < limits.min_side else "image_too_narrow"
    return facts._replace(problem=problem, value=f"{facts.width}x{facts.height}")


def content_id(content: bytes) -> str:
    """The SHA-256 of an image's bytes, as hex."""
    return hashlib.sha256(content).hexdigest()


def _too_many_pixels(facts: ImageFacts) -> ImageFacts:
    """Nothing but the number is told: which way up the picture is, only decoding would show."""
    return ImageFacts(
        facts.image_id,
        problem="image_too_many_pixels",
        value=f"{facts.width * facts.height} pixels",
    )


def _problem(error: Exception, content: bytes) -> str:
    if isinstance(error, MemoryError):
        return "image_decoder_crashed"
    said = str(error).lower()
    if "truncated" in said or isinstance(error, EOFError) or _ends_early(content):
        return "image_truncated"
    return "image_unreadable"


def _ends_early(content: bytes) -> bool:
    """Whether a WebP, whose decoder does not tell, is shorter than it says."""
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return is_webp and int.from_bytes(content[4:8], "little") + 8 > len(content)


def _said(error: Exception) -> str:
    """The error in words that name no address and no folder."""
    return f"{type(error).__name__}: {_ADDRESS.sub('', str(error))}"[:_SAID]
