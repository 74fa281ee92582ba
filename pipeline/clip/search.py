"""The pictures nearest to a text, among those that the embed stage embedded.

Shapes: N images, K hits, D width.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.artifacts import read_json
from pipeline.clip import device as devices
from pipeline.clip import store
from pipeline.clip.cache import Matrix
from pipeline.clip.model import load, locate
from pipeline.clip.towers import Towers
from pipeline.errors import ModelError
from pipeline.params import ModelParams


class Hit(NamedTuple):
    """An image and the cosine of its embedding with that of the text."""

    image_id: str
    cosine: float


def search(
    text: str, folder: Path, *, base: ModelParams, cpu_threads: int, count: int
) -> list[Hit]:
    """The `count` images in `folder` nearest to `text`, the nearest first; ties go by id.

    Raises ModelError where there are no embeddings, or those of another model than `base`.
    """
    if not (folder / store.MODEL_FILE).is_file():
        raise ModelError(f"{folder} holds no embeddings: run `dvc repro embed` first")
    made: dict[str, Any] = read_json(folder / store.MODEL_FILE)
    device = devices.prepare(cpu_threads=cpu_threads)
    clip = load(locate(base.pretrained), architecture=base.name)
    if clip.fingerprint != made["model"]:
        raise ModelError(
            f"{folder} was made with other weights than those that model.pretrained names, "
            f"{base.pretrained}: run `dvc repro embed` first"
        )
    towers = Towers(clip, device=device, precision="fp32")
    query = towers.texts(clip.tokenizer([text]))[0].cpu().numpy()
    images = store.read(folder, "images")
    places, cosines = nearest(images, query, count=count)
    return [
        Hit(images.ids[place].decode(), float(cosine))
        for place, cosine in zip(places, cosines, strict=True)
    ]


def nearest(
    images: store.Embeddings, query: Matrix, *, count: int
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Matrix]:
    """Rows and cosines of the K = `count` vectors nearest to `query`, D; read in blocks."""
    places = np.empty(0, dtype=np.int64)
    cosines = np.empty(0, dtype=np.float32)
    for start, vectors in images.blocks():
        places = np.concatenate([places, np.arange(start, start + len(vectors))])
        cosines = np.concatenate([cosines, vectors @ query])
        best = np.lexsort((places, -cosines))[:count]
        places, cosines = places[best], cosines[best]
    return places, cosines
