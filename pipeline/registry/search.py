"""The pictures of a folder nearest to a text, by a bundle alone.

Shapes: N pictures, D width of an embedding.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.clip import device as devices
from pipeline.clip.embed import embed_texts
from pipeline.clip.files import embed_files
from pipeline.clip.search import Hit
from pipeline.data.pictures import Unread, listed
from pipeline.errors import DataError, ModelError
from pipeline.evaluation.exact import finite
from pipeline.registry import bundle


class Searched(NamedTuple):
    """Hits, whose ids are paths from the folder; how many pictures there were; the others."""

    hits: list[Hit]
    pictures: int
    unread: list[Unread]


def search_folder(text: str, model: Path, images: Path, *, count: int, max_pixels: int) -> Searched:
    """The `count` pictures below `images` nearest to `text`, the nearest first; ties go by name.

    Files that give no picture are passed over and told. Raises ModelError as `bundle.load` does,
    DataError where no file gives a picture.
    """
    found = listed(images)
    unread = list(found.unread)
    clip = bundle.load(model)
    device = devices.choose()
    embedded = embed_files(
        clip, found.files, max_pixels=max_pixels, device=device, unread=unread.append
    )
    if not embedded.names:
        first = unread[0]
        raise DataError(f"no file in {images} gives a picture; {first.name}: {first.why}")
    query = embed_texts(clip, [text], batch_size=1, device=device)
    if not (finite(embedded.vectors) and finite(query)):
        raise ModelError(f"the embeddings of {model} are not finite: its weights are broken")
    cosines = embedded.vectors @ query[0]
    nearest = np.argsort(-cosines, kind="stable")[:count].tolist()
    hits = [Hit(embedded.names[place], float(cosines[place])) for place in nearest]
    return Searched(hits, len(embedded.names), unread)
