"""Small pictures that travel inside the page."""

import base64
import io
from pathlib import Path

from PIL import Image

from pipeline.data.images import inside, open_image

SIDE = 96
"""Pixels of the longer side, at most."""

_QUALITY = 80
_BEHIND = (255, 255, 255)


def thumbnail(root: Path, relative: str) -> str | None:
    """The picture at `relative` under `root` as a JPEG `data:` URI.

    None where there is nothing to show: the path leads out of `root`, or no image can be read.
    """
    path = inside(root, relative)
    if path is None or not path.is_file():
        return None
    try:
        picture = _opaque(open_image(path))
    except Exception:  # Pillow's decoders raise whatever a broken file provokes
        return None
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _opaque(picture: Image.Image) -> Image.Image:
    """RGB, with what is transparent shown on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    ground = Image.new("RGBA", layers.size, (*_BEHIND, 255))
    return Image.alpha_composite(ground, layers).convert("RGB")
