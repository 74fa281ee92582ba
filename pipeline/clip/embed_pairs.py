"""The embed stage's one call: clean pairs and the base model → embeddings and pair scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline.artifacts import new_folder, sha256_text, write_json
from pipeline.clip import mismatch, projection, semantic, shift, store, work
from pipeline.clip.cache import as_ids
from pipeline.clip.spread import everywhere
from pipeline.clip.tokens import TokenCounter
from pipeline.data.pairs import reason_counts, tally, write_stage
from pipeline.data.plot_rows import write_plot
from pipeline.params import EmbedParams, ModelParams

SCORES = pa.schema([("pair", pa.int64()), ("score", pa.float32()), ("fit", pa.float32())])


def embed_pairs(
    clean: Path,
    source: Path,
    folder: Path,
    selected: Path,
    params: EmbedParams,
    *,
    packed: Path,
    base: ModelParams,
    cpu_threads: int,
    cache: Path,
    accepted: Path,
    projection_file: Path,
) -> dict[str, Any]:
    """Embed each image and each distinct caption once; write vectors and scores, select pairs.

    Files in `folder`: images.parquet and images-00000.npy, …; texts likewise (id: SHA-256 of the
    caption); scores.parquet (pair, cosine of image and caption, fit: see `mismatch`); model.json
    (what the vectors are made with). In `selected`: the pairs to train on, and those that are
    dropped, with the reason. In `projection_file`: points to draw (see `projection`). What `cache`
    holds is not computed again; what is computed is kept there. Returns counts, the share of
    captions cut to the model's context length, and quantiles of cosines and fits.

    Raises DataError when images can't be decoded, after all others are embedded, and when the
    pictures drifted from those in `accepted` by more than `embed.drift.stop`; ModelError when
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
        score, fit = mismatch.compare(
            as_ids(job.pairs["image_id"].tolist()),
            as_ids([sha256_text(caption) for caption in job.pairs["caption"]]),
            store.read(part, "images"),
            store.read(part, "texts"),
        )
        columns = {"pair": job.pairs["pair"], "score": score, "fit": fit}
        table = pa.table(columns, schema=SCORES)
        pq.write_table(table, part / "scores.parquet", compression="zstd")
        made = {name: job.images.key[name] for name in ("model", "precision", "exact", "device")}
        present = shift.profile(store.read(part, "images"), _made(job.images.key))
        moved = shift.compare(present, accepted)
        warning = shift.judge(moved, params.drift)
        split_of = dict(zip(job.pairs["image_id"], job.pairs["split"], strict=True))
        alike = semantic.near(
            store.read(part, "images"), split_of, min_similarity=params.min_similarity
        )
        near = pa.Table.from_pandas(alike.pairs, schema=semantic.NEAR, preserve_index=False)
        pq.write_table(near, part / "near.parquet", compression="zstd")
        drawn = projection.project(store.read(part, "images"), job.pairs)
        write_json(part / store.PROFILE_FILE, present.model_dump())
        write_json(part / store.MODEL_FILE, {"architecture": base.name, **made})
    write_plot(projection_file, drawn.points)
    reasons = mismatch.reject(job.pairs, fit, params.mismatched)
    rejected = _rejected(job.pairs, reasons, fit)
    with new_folder(selected) as part:
        write_stage(part, job.pairs[reasons.isna()], rejected)
    counter = TokenCounter(job.clip.tokenizer)
    cut = int((counter.count(list(job.texts.values())) > counter.limit).sum())
    found = {
        "read": len(job.pairs),
        "accepted": int(reasons.isna().sum()),
        "rejected": reason_counts(reasons),
        "images": len(job.image_ids),
        "texts": len(job.texts),
        "dim": int(job.images.take(ids[:1]).shape[1]),
        "truncated_share": cut / len(job.texts),
        "score": _quantiles(score),
        "fit": _quantiles(fit),
        "projection_explained": drawn.explained,
        "near": {"pairs": len(alike.pairs), "across_splits": alike.across},
        "drift": moved._asdict(),
    }
    for line in (
        warning and f"warning: {warning}",
        moved.why
        and shift.read_accepted(accepted)
        and f"embedding drift is not measured: {moved.why}",
        alike.why and f"pictures alike to the model are not looked for: {alike.why}",
    ):
        if line:
            tqdm.write(line)
    tqdm.write(tally(found, selected))
    return found


def _made(key: Mapping[str, Any]) -> str:
    """What two sets of vectors must share to be compared.

    Not the machine nor a library's version: these move last digits alone, and an upgrade would
    switch the measuring off just when it is wanted.
    """
    shared = ("model", "model_cfg", "preprocess", "precision", "exact")
    return sha256_text(json.dumps({name: key[name] for name in shared}, sort_keys=True))


def _rejected(pairs: pd.DataFrame, reasons: pd.Series, fit: mismatch.Values) -> pd.DataFrame:
    """The dropped pairs as every stage lists them; the value is the pair's fit."""
    gone = reasons.notna()
    values = [f"fit {value:.3f}" for value in fit[gone.to_numpy()]]
    columns = ["pair", "source_row", "image", "caption"]
    return pairs.loc[gone, columns].assign(reason=reasons[gone], value=values)


def _quantiles(values: mismatch.Values) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(values, q)) for q in (1, 10, 50, 90, 99)}
