"""The embed stage's one call: clean pairs and the base model → embeddings and pair scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import new_folder, sha256_text, write_json
from pipeline.clip import device as devices
from pipeline.clip import store
from pipeline.clip.embed import embed_images, embed_texts, truncated
from pipeline.clip.model import load, locate
from pipeline.clip.pixels import Crops
from pipeline.data.pairs import read_pairs
from pipeline.data.places import places_of
from pipeline.params import EmbedParams, ModelParams

SCORES = pa.schema([("pair", pa.int64()), ("score", pa.float32())])


def embed_pairs(
    clean: Path,
    source: Path,
    folder: Path,
    params: EmbedParams,
    *,
    packed: Path,
    base: ModelParams,
    cpu_threads: int,
) -> dict[str, Any]:
    """Embed each image and each distinct caption once; write vectors, scores and the model's hash.

    Files: images.{npy,parquet}, texts.{npy,parquet} (id: SHA-256 of the caption), scores.parquet
    (pair, cosine of image and caption), model.json. Returns counts, the share of captions
    cut to the model's context length, and quantiles of the scores.
    """
    device = devices.prepare(cpu_threads=cpu_threads)
    clip = load(locate(base.pretrained), architecture=base.name)
    clip.model.to(device)
    pairs = read_pairs(clean)
    image_ids = sorted(pairs["image_id"].unique())
    texts = sorted(pairs["caption"].unique())
    crops = Crops(clip, places_of(pairs, source=source, packed=packed))
    size = params.batch_size
    images = embed_images(clip, crops, image_ids, batch_size=size, device=device)
    captions = embed_texts(clip, texts, batch_size=size, device=device)
    score = _scores(pairs, image_ids, texts, images, captions)
    cut = truncated(clip, texts, batch_size=size)
    with new_folder(folder) as part:
        store.write(part, "images", image_ids, images, dtype=params.dtype)
        store.write(part, "texts", [sha256_text(t) for t in texts], captions, dtype=params.dtype)
        table = pa.table({"pair": pairs["pair"], "score": score}, schema=SCORES)
        pq.write_table(table, part / "scores.parquet", compression="zstd")
        write_json(part / "model.json", {"architecture": base.name, "sha256": clip.fingerprint})
    return {
        "images": len(image_ids),
        "texts": len(texts),
        "dim": images.shape[1],
        "truncated_share": cut / len(texts),
        "score": {f"p{q}": float(np.percentile(score, q)) for q in (1, 10, 50, 90, 99)},
    }


def _scores(
    pairs: pd.DataFrame,
    image_ids: list[str],
    texts: list[str],
    images: np.ndarray[Any, Any],
    captions: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any]:
    """The cosine of each pair: image·caption, of unit vectors."""
    image_place = pd.Index(image_ids).get_indexer(pd.Index(pairs["image_id"]))
    text_place = pd.Index(texts).get_indexer(pd.Index(pairs["caption"]))
    cosine: np.ndarray[Any, Any] = np.einsum("nd,nd->n", images[image_place], captions[text_place])
    return cosine
