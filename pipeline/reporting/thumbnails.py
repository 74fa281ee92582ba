"""Small pictures that travel inside the page."""

import base64
import io

from PIL import Image

from pipeline.data.images import open_image
from pipeline.data.places import Place

SIDE = 96
"""Pixels of the longer side, at most."""

_QUALITY = 80


def thumbnail(place: Place | None) -> str | None:
    """The picture at `place` as a JPEG `data:` URI; None where no image can be read."""
    if place is None:
        return None
    try:
        picture = open_image(place)
    except Exception:  # Pillow's decoders raise whatever a broken file provokes
        return None
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
