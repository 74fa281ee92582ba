"""The embed stage's one call: clean pairs and the base model → embeddings and pair scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import new_folder, sha256_text, write_json
from pipeline.clip import store, work
from pipeline.clip.cache import as_ids
from pipeline.clip.spread import everywhere
from pipeline.clip.tokens import TokenCounter
from pipeline.params import EmbedParams, ModelParams

SCORES = pa.schema([("pair", pa.int64()), ("score", pa.float32())])

Scores = np.ndarray[Any, np.dtype[np.float32]]


def embed_pairs(
    clean: Path,
    source: Path,
    folder: Path,
    params: EmbedParams,
    *,
    packed: Path,
    base: ModelParams,
    cpu_threads: int,
    cache: Path,
) -> dict[str, Any]:
    """Embed each image and each distinct caption once; write vectors, scores and the model's hash.

    Files: images.parquet and images-00000.npy, …; texts likewise (id: SHA-256 of the caption);
    scores.parquet (pair, cosine of image and caption); model.json (what the vectors are made with).
    What `cache` holds is not computed again; what is computed is kept there. Returns counts, the
    share of captions cut to the model's context length, and quantiles of the scores.

    Raises DataError when images can't be decoded, after all others are embedded, ModelError when
    the model can't be loaded or a process is lost.
    """
    everywhere()
    job = work.prepare(
        clean, source, params, packed=packed, base=base, cpu_threads=cpu_threads, cache=cache
    )
    work.complete(job, cache=cache)
    with new_folder(folder) as part:
        ids = as_ids(job.image_ids)
        store.write(part, "images", ids, job.images.take, dtype=params.dtype)
        store.write(part, "texts", as_ids(list(job.texts)), job.captions.take, dtype=params.dtype)
        score = _scores(job)
        table = pa.table({"pair": job.pairs["pair"], "score": score}, schema=SCORES)
        pq.write_table(table, part / "scores.parquet", compression="zstd")
        made = {name: job.images.key[name] for name in ("model", "precision", "exact", "device")}
        write_json(part / "model.json", {"architecture": base.name, **made})
    counter = TokenCounter(job.clip.tokenizer)
    cut = int((counter.count(list(job.texts.values())) > counter.limit).sum())
    return {
        "images": len(job.image_ids),
        "texts": len(job.texts),
        "dim": int(job.images.take(ids[:1]).shape[1]),
        "truncated_share": cut / len(job.texts),
        "score": {f"p{q}": float(np.percentile(score, q)) for q in (1, 10, 50, 90, 99)},
    }


def _scores(job: work.Work) -> Scores:
    """The cosine of each pair: image·caption, of unit vectors, in fp32."""
    pairs = job.pairs
    found = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), store.BLOCK):
        rows = pairs.iloc[start : start + store.BLOCK]
        images = job.images.take(as_ids(rows["image_id"].tolist()))
        captions = job.captions.take(as_ids(_text_ids(rows["caption"])))
        found[start : start + len(rows)] = np.einsum("nd,nd->n", images, captions)
    return found


def _text_ids(captions: pd.Series) -> list[str]:
    return [sha256_text(caption) for caption in captions]
