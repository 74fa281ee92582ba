"""A second opinion on the image tower: classifiers of its embeddings, which need no class names.

Zero-shot accuracy asks how well images match their classes' names; these ask how far the images of
each class stand apart. k nearest neighbours are what embeddings are worth as they lie, a linear
probe (Radford et al. 2021, §3.2) what they are worth to whoever trains on them. Both learn from the
training split alone; the probe's penalty is chosen on the validation split; both are scored on the
test split, base and final model on the same images.

Shapes: N images, D width of an embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from pipeline.clip.embed import embed_images
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.clip.towers import batch_for
from pipeline.evaluation import logistic, neighbours
from pipeline.evaluation.bootstrap import Metric, paired_gains
from pipeline.evaluation.exact import CPU, Integers, Matrix
from pipeline.evaluation.sets import EvalSet
from pipeline.params import EvaluateParams, ProbeParams

OFF = "evaluate.probe is null"
NO_LABELS = "no test picture has a label"
NO_VALIDATION = (
    "no picture of the validation split has a label of the training split, so none of the "
    "strengths in evaluate.probe.l2 can be chosen: name one alone, or label some"
)


class Part(Protocol):
    """A split of the target, and its crops."""

    data: EvalSet
    crops: Crops


class Labelled(NamedTuple):
    """Embeddings of a split's labelled images, N×D of unit length, and their classes: N."""

    images: Matrix
    actual: Integers


class Answers(NamedTuple):
    """What one model's classifiers say of N test images; `linear` is None where it is left out.

    Attributes:
        knn, linear: the class, N.
        chosen: of the linear one: l2; val, its accuracy there, null without a choice; at_end,
            whether it is the weakest or strongest that was tried; converged.
    """

    knn: Integers
    linear: Integers | None
    chosen: dict[str, Any]


def second_opinion(
    models: tuple[Clip, Clip],
    train: Callable[[], Part],
    val: Part,
    test: Part,
    params: EvaluateParams,
    *,
    same: bool,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Accuracy of k-NN and linear probe on the target, of the base and of the final model.

    `train` is called where it is needed; `same`: both models embed images alike.

    Found are `omitted` (`probe` or `linear` → why), and, unless it is the whole probe: `knn` and
    `linear` → base, final, gain (value, low, high); each of `Answers.chosen` → base, final; `k`;
    `images` used, by split;
    `labelled`, the training images from which max_train were drawn; `unseen`: `classes` of the test
    split that these lack, and how many `images` are of them, which nothing can get right.
    """
    asked = params.probe
    if asked is None:
        return {"omitted": {"probe": OFF}}
    test_labels = labels_of(test.data)
    if test_labels.empty:
        return {"omitted": {"probe": NO_LABELS}}
    learnt = train()
    all_labels = labels_of(learnt.data)
    labels = drawn(all_labels, asked.max_train, seed=seed)
    why = untold(labels)
    if why is not None:
        return {"omitted": {"probe": why}}
    val_labels = labels_of(val.data)
    val_labels = val_labels[val_labels.isin(labels)]
    used = {"train": (learnt, labels), "val": (val, val_labels), "test": (test, test_labels)}
    names = sorted({*labels, *test_labels})

    def answered(clip: Clip) -> Answers:
        size = batch_for(clip, params.batch_size, device=device).images
        parts = {
            split: _embedded(clip, part.crops, some, names, batch_size=size, device=device)
            for split, (part, some) in used.items()
        }
        where = device if device.type == "cuda" else CPU  # others lack float64
        return answers(**parts, asked=asked, classes=len(names), device=where)

    base = answered(models[0])
    final = base if same else answered(models[1])
    unseen = test_labels[~test_labels.isin(labels)]
    return {
        **compared(base, final, _classes(test_labels, names), params=params, seed=seed),
        "k": min(asked.k, len(labels)),
        "images": {split: len(some) for split, (_, some) in used.items()},
        "labelled": len(all_labels),
        "unseen": {"classes": sorted(unseen.unique()), "images": len(unseen)},
    }


def labels_of(data: EvalSet) -> pd.Series:
    """The label of each image that has one, by its id and in the order of ids."""
    found = data.pairs.groupby("image_id", sort=True)["label"].first().dropna()
    return found.astype(object)


def untold(train: pd.Series) -> str | None:
    """Why nothing can be learnt from the labels of the training images; None: it can."""
    if train.empty:
        return "no training picture has a label"
    if train.nunique() == 1:
        return f"the training pictures have one label, {train.iloc[0]!r}: nothing to tell apart"
    return None


def drawn(labels: pd.Series, most: int, *, seed: int) -> pd.Series:
    """Up to `most` of the images, of each label about the same share, in the order given.

    Whatever their share, a label keeps an image while `most` has room for one of each.
    """
    if len(labels) <= most:
        return labels
    order = np.random.default_rng(seed).permutation(len(labels))
    mixed = labels.iloc[order]
    of_label = mixed.groupby(mixed)
    share = (of_label.cumcount() / of_label.transform("size")).to_numpy()
    kept = order[np.argsort(share, kind="stable")[:most]]
    return labels.iloc[np.sort(kept)]


def answers(
    train: Labelled,
    val: Labelled,
    test: Labelled,
    *,
    asked: ProbeParams,
    classes: int,
    device: torch.device = CPU,
) -> Answers:
    """What k-NN and the linear probe, both learnt from `train`, say of `test`."""
    near = neighbours.answers(
        test.images, train.images, train.actual, k=asked.k, classes=classes, device=device
    )
    if len(set(asked.l2)) > 1 and not len(val.actual):
        return Answers(near, None, {})
    # A class that train lacks would have a bias without a bound.
    seen, actual = np.unique(train.actual, return_inverse=True)
    fitted = logistic.fitted(train.images, actual, asked.l2, classes=len(seen), device=device)
    scored = [(l2, model, _accuracy(seen[model.answers(val.images)], val)) for l2, model in fitted]
    # Of equally good ones the strongest, which is first.
    l2, model, accuracy = max(scored, key=lambda one: -1 if one[2] is None else one[2])
    at_end = len(set(asked.l2)) > 1 and l2 in (min(asked.l2), max(asked.l2))
    chosen = {"l2": l2, "val": accuracy, "at_end": at_end, "converged": model.converged}
    return Answers(near, seen[model.answers(test.images)], chosen)


def compared(
    base: Answers, final: Answers, actual: Integers, *, params: EvaluateParams, seed: int
) -> dict[str, Any]:
    """Accuracies and gains from both models' answers about the test images of N classes."""
    ones = np.ones(len(actual))

    def metrics(said: Answers) -> dict[str, Metric]:
        found = {"knn": said.knn, "linear": said.linear}
        return {
            name: Metric((one == actual).astype(float), ones)
            for name, one in found.items()
            if one is not None
        }

    before, after = metrics(base), metrics(final)
    (gains,) = paired_gains(
        before, [after], resamples=params.bootstrap, confidence=params.confidence, seed=seed
    )
    found: dict[str, Any] = {
        name: {
            "base": float(before[name].hits.mean()),
            "final": float(after[name].hits.mean()),
            "gain": gain,
        }
        for name, gain in gains.items()
    }
    if base.linear is None:
        return {"omitted": {"linear": NO_VALIDATION}, **found}
    told = {what: {"base": base.chosen[what], "final": final.chosen[what]} for what in base.chosen}
    return {"omitted": {}, **found, **told}


def _accuracy(said: Integers, part: Labelled) -> float | None:
    return float((said == part.actual).mean()) if len(said) else None


def _classes(labels: pd.Series, names: Sequence[str]) -> Integers:
    found: Integers = pd.Index(names).get_indexer(pd.Index(labels)).astype(np.int64)
    return found


def _embedded(
    clip: Clip,
    crops: Crops,
    labels: pd.Series,
    names: Sequence[str],
    *,
    batch_size: int,
    device: torch.device,
) -> Labelled:
    if labels.empty:
        return Labelled(np.empty((0, 0), np.float32), np.empty(0, np.int64))
    ids = list(labels.index)
    images = embed_images(clip, crops, ids, batch_size=batch_size, device=device)
    return Labelled(images, _classes(labels, names))
