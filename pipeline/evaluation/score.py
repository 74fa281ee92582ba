"""One model on one set: each metric in its parts by image, and what was said of each image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.clip.embed import Matrix, embed_images, embed_texts
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.evaluation import retrieval, zeroshot
from pipeline.evaluation.bootstrap import Metric
from pipeline.evaluation.sets import EvalSet
from pipeline.params import EvaluateParams

CLASSIFICATION = ("top1", "top5", "mean_per_class")
RETRIEVAL = tuple(f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in retrieval.KS)
METRICS = (*CLASSIFICATION, *RETRIEVAL)


@dataclass(frozen=True)
class Scored:
    """What one model made of a set.

    Attributes:
        metrics: by name; classification ones only where the set has labels.
        said: by image_id: label and score (cosine) of its best class, null without labels;
            rank_i2t, the rank of its best-placed caption.
    """

    metrics: dict[str, Metric]
    said: pd.DataFrame


def score(
    clip: Clip,
    data: EvalSet,
    crops: Crops,
    params: EvaluateParams,
    *,
    device: torch.device,
) -> Scored:
    """Embed the set once, in fp32, and score classification and retrieval on it."""
    clip.model.to(device)
    size = params.batch_size
    owner, ids = pd.factorize(data.pairs["image_id"], sort=True)
    images = embed_images(clip, crops, list(ids), batch_size=size, device=device)

    def embed(texts: list[str]) -> Matrix:
        distinct = list(dict.fromkeys(texts))
        found = embed_texts(clip, distinct, batch_size=size, device=device)
        place = {text: i for i, text in enumerate(distinct)}
        return found[[place[text] for text in texts]]

    texts = embed(list(data.pairs["caption"]))
    i2t = retrieval.image_to_text_ranks(images, texts, owner)
    t2i = retrieval.text_to_image_ranks(images, texts, owner)
    metrics = {**_image_to_text(i2t), **_text_to_image(t2i, owner)}
    said = pd.DataFrame({"image_id": ids, "label": None, "score": np.nan, "rank_i2t": i2t})
    if data.classes:
        weights = zeroshot.class_weights(data.classes, params.templates, embed)
        metrics |= _classification(images, weights, data, list(ids))
        best, cosine = zeroshot.predictions(images, weights)
        said = said.assign(label=[data.classes[c] for c in best], score=cosine)
    return Scored({name: metrics[name] for name in METRICS if name in metrics}, said)


def _classification(
    images: Matrix, weights: Matrix, data: EvalSet, ids: list[Any]
) -> dict[str, Metric]:
    """Top-1, top-5 and mean per class, over the images that have a label."""
    labels = data.pairs.groupby("image_id")["label"].first().reindex(ids)
    known = labels.notna().to_numpy()
    actual = pd.Index(data.classes).get_indexer(pd.Index(labels[known]))
    ranks = zeroshot.ranks(images[known], weights, actual)
    ones = np.ones(len(ranks))
    groups = np.unique(actual, return_inverse=True)[1]
    top1 = (ranks <= 1).astype(float)
    return {
        "top1": Metric(top1, ones),
        "top5": Metric((ranks <= 5).astype(float), ones),
        "mean_per_class": Metric(top1, ones, groups),
    }


def _image_to_text(ranks: retrieval.Integers) -> dict[str, Metric]:
    ones = np.ones(len(ranks))
    return {f"image_to_text_r{k}": Metric((ranks <= k).astype(float), ones) for k in retrieval.KS}


def _text_to_image(ranks: retrieval.Integers, owner: retrieval.Integers) -> dict[str, Metric]:
    """Hits of an image's texts over their number."""
    counts = np.bincount(owner).astype(float)
    hits = {k: np.bincount(owner, weights=ranks <= k).astype(float) for k in retrieval.KS}
    return {f"text_to_image_r{k}": Metric(hits[k], counts) for k in retrieval.KS}
