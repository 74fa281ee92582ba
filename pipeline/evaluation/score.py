"""One model on one set: each metric in its parts by image, and what was said of each image.

Shapes: N images, U texts, C classes, D width of an embedding.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from pipeline.clip.embed import embed_images, embed_texts
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.clip.towers import batch_for
from pipeline.errors import ModelError
from pipeline.evaluation import classes, prompts, retrieval, top, zeroshot
from pipeline.evaluation.bootstrap import Median, Metric, Statistic
from pipeline.evaluation.calibration import calibration
from pipeline.evaluation.exact import CPU, Integers, Matrix, finite
from pipeline.evaluation.ranks import pair_ranks
from pipeline.evaluation.sets import EvalSet
from pipeline.params import EvaluateParams

CLASSIFICATION = ("top1", "top5", "mean_per_class")
WAYS = ("image_to_text", "text_to_image")
RECALLS = tuple(f"r{k}" for k in retrieval.KS)
RETRIEVAL = tuple(
    f"{way}_{what}" for way in WAYS for what in (*RECALLS, "mrr", "map", "median_rank")
)
METRICS = (*CLASSIFICATION, *RETRIEVAL)
"""Shares, of which more is better, but for the median ranks: 1 is best."""


@dataclass(frozen=True)
class Scored:
    """What one model made of a set.

    Attributes:
        metrics: by name; classification ones only where they say something.
        said: by image_id: label and score (cosine) of its best class, null without classification;
            rank_i2t, the rank of its best-placed caption.
        details: `omitted` (metric, `classification` or `retrieval` → why it is left out), `texts`
            (how many distinct ones); with classification also `labelled` (images with a label),
            `chance`, `majority` (class, share), `classes_without_images`, `ece`, `reliability`
            (calibration.py) and `per_class` (classes.py).
        searches: a few queries both ways with their first answers (top.py).
    """

    metrics: dict[str, Statistic]
    said: pd.DataFrame
    details: dict[str, Any]
    searches: pd.DataFrame


class Embedded(NamedTuple):
    """What one model gives of a set.

    Attributes:
        images: of the set's images by id, N×D of unit length.
        texts: of its distinct captions, as `retrieval.distinct_texts` orders them, U×D likewise.
        weights: of its classes, C×D likewise; None where it is not classified.
        scale: what the model multiplies cosines by.
    """

    images: Matrix
    texts: Matrix
    weights: Matrix | None
    scale: float


class Known(NamedTuple):
    """What is known of an `Embedded` before anything is embedded, in its shapes; None: nothing."""

    images: Matrix | None = None
    texts: Matrix | None = None
    weights: Matrix | None = None


NOTHING = Known()


def score(
    clip: Clip,
    data: EvalSet,
    crops: Crops,
    params: EvaluateParams,
    *,
    device: torch.device,
) -> Scored:
    """Embed the set once, in fp32, and score classification and retrieval on it.

    Raises DataError for two classes of the same name, ModelError for embeddings not finite.
    """
    return scored(embedded(clip, data, crops, params, device=device), data, device=device)


def embedded(
    clip: Clip,
    data: EvalSet,
    crops: Crops,
    params: EvaluateParams,
    *,
    device: torch.device,
    known: Known = NOTHING,
) -> Embedded:
    """Embed what is not `known` of a set's images, its captions and its classes' prompts."""
    clip.model.to(device)
    size = batch_for(clip, params.batch_size, device=device)

    def embed(texts: list[str]) -> Matrix:
        return embed_texts(clip, texts, batch_size=size.texts, device=device)

    images, texts, weights = known
    if weights is None and _unclassified(data) is None:
        asked = prompts.templates(data.templates or params.templates)
        synonyms = params.synonyms if data.synonyms is None else data.synonyms
        weights = zeroshot.class_weights(data.classes, asked, embed, synonyms=synonyms)
    if images is None:
        ids = np.unique(data.pairs["image_id"].to_numpy(dtype=object))
        images = embed_images(clip, crops, list(ids), batch_size=size.images, device=device)
    if texts is None:
        texts = embed(retrieval.distinct_texts(data.pairs["caption"].tolist()).distinct)
    scale = float(clip.model.logit_scale.detach().exp())  # type: ignore[operator]
    return Embedded(images, texts, weights, scale)


def scored(found: Embedded, data: EvalSet, *, device: torch.device = CPU) -> Scored:
    """Score a set's embeddings; the device changes the time, and no figure.

    Raises ModelError for embeddings that are not finite.
    """
    _check(found)
    owner, ids = pd.factorize(data.pairs["image_id"], sort=True)
    where = device if device.type == "cuda" else CPU  # others lack float64
    texts = retrieval.distinct_texts(data.pairs["caption"].tolist())
    pairs = retrieval.belonging(owner, texts)
    ranks = pair_ranks(found.images, found.texts, pairs, device=where)
    of_images = retrieval.of_queries(pairs.image, ranks.text)
    of_texts = retrieval.of_queries(pairs.text, ranks.image)
    captions = retrieval.Queries(
        of_texts.best[texts.of_caption], of_texts.precision[texts.of_caption]
    )
    metrics: dict[str, Statistic] = {}
    if data.unsearched is None:
        metrics |= _retrieval("image_to_text", of_images, np.arange(len(ids)))
        metrics |= _retrieval("text_to_image", captions, owner)
    said = pd.DataFrame(
        {"image_id": ids, "label": None, "score": np.nan, "rank_i2t": of_images.best}
    )
    details: dict[str, Any] = {"omitted": {}, "texts": len(texts.distinct)}
    if data.unsearched is not None:
        details["omitted"]["retrieval"] = data.unsearched
    why = _unclassified(data)
    if why is not None or found.weights is None:
        details["omitted"]["classification"] = why
    else:
        actual = _actual(data, list(ids))
        told = zeroshot.answers(found.images, found.weights, actual=actual, scale=found.scale)
        said = said.assign(label=[data.classes[c] for c in told.best], score=told.cosine)
        metrics |= _classification(told, actual, classes=len(data.classes))
        details |= _detailed(told, actual, data.classes)
        if "top5" not in metrics:
            details["omitted"]["top5"] = (
                f"of {len(data.classes)} classes any answer is among the best 5"
            )
    searches = top.both_ways(
        found.images,
        found.texts,
        ids=list(ids),
        captions=texts.distinct,
        image=pairs.image,
        text=pairs.text,
        best_text=of_images.best,
        best_image=of_texts.best,
    )
    known = {name: metrics[name] for name in METRICS if name in metrics}
    return Scored(known, said, details, searches)


def _check(found: Embedded) -> None:
    """NaN is larger than nothing, so that each rank would be the best."""
    given = {"images": found.images, "captions": found.texts, "classes": found.weights}
    for name, vectors in given.items():
        if vectors is not None and not finite(vectors):
            raise ModelError(
                f"the model's embeddings of {name} are not finite: its weights are broken; "
                "fine-tune with a lower finetune.lr, or load another base"
            )


def _unclassified(data: EvalSet) -> str | None:
    """Why a set is not classified; None: it is."""
    if data.unnamed is not None:
        return data.unnamed
    if not data.classes:
        return "the set has no labels"
    if len(data.classes) == 1:
        return f"the set has one class, {data.classes[0]!r}: any answer would be right"
    if data.pairs["label"].isna().all():
        return "no image of the set has a label"
    return None


def _actual(data: EvalSet, ids: list[Any]) -> Integers:
    """The class of each image, −1 without a label: N."""
    labels = data.pairs.groupby("image_id")["label"].first().reindex(ids)
    found: Integers = pd.Index(data.classes).get_indexer(pd.Index(labels)).astype(np.int64)
    return found


def _classification(told: zeroshot.Answers, actual: Integers, *, classes: int) -> dict[str, Metric]:
    """Top-1, top-5 and mean per class, over the images that have a label."""
    known = actual >= 0
    ranks = told.rank[known]
    ones = np.ones(len(ranks))
    groups = np.unique(actual[known], return_inverse=True)[1]
    top1 = (ranks <= 1).astype(float)
    metrics = {"top1": Metric(top1, ones), "mean_per_class": Metric(top1, ones, groups)}
    if classes > 5:
        metrics["top5"] = Metric((ranks <= 5).astype(float), ones)
    return metrics


def _detailed(told: zeroshot.Answers, actual: Integers, names: list[str]) -> dict[str, Any]:
    """What is told of a classification beside its metrics, over the images that have a label."""
    known = actual >= 0
    actual, best = actual[known], told.best[known]
    calibrated = calibration(told.confidence[known], best == actual)
    return {
        "labelled": len(actual),
        "chance": 1 / len(names),
        "majority": classes.majority(actual, names),
        "classes_without_images": classes.without_images(actual, names),
        "ece": calibrated.ece,
        "reliability": calibrated.reliability,
        "per_class": classes.per_class(actual, best, names),
    }


def _retrieval(way: str, queries: retrieval.Queries, owner: Integers) -> dict[str, Statistic]:
    """Sums over each image's queries beside their number, and the median of all."""
    counts = np.bincount(owner).astype(float)
    by_query = {
        **{f"r{k}": queries.best <= k for k in retrieval.KS},
        "mrr": 1 / queries.best,
        "map": queries.precision,
    }
    parts: dict[str, Statistic] = {
        f"{way}_{what}": Metric(np.bincount(owner, weights=one).astype(float), counts)
        for what, one in by_query.items()
    }
    return {**parts, f"{way}_median_rank": Median(queries.best.astype(float), owner)}
