"""Results, predictions and metrics as the stages write them, small enough to check by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from pipeline.data.places import Place, Places
from pipeline.reporting.leaks import Leak
from pipeline.reporting.quality import Quality
from pipeline.reporting.searches import COLUMNS as SEARCH_COLUMNS

CLASSIFICATION = ("top1", "top5", "mean_per_class")
RETRIEVAL = tuple(f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10))


def scores(
    base: float,
    finetuned: float,
    low: float,
    high: float,
    *,
    labels: bool = True,
    images: int = 500,
) -> dict[str, Any]:
    """A set in which every metric has the same values."""
    known = (*CLASSIFICATION, *RETRIEVAL) if labels else RETRIEVAL
    without = {} if labels else dict.fromkeys(CLASSIFICATION)
    gain = {"value": finetuned - base, "low": low, "high": high}
    return {
        "images": images,
        "captions": 2 * images,
        "classes": 10 if labels else None,
        "chance": 0.1 if labels else None,
        "base": {**without, **dict.fromkeys(known, base)},
        "finetuned": {**without, **dict.fromkeys(known, finetuned)},
        "final": {**without, **dict.fromkeys(known, finetuned)},
        "gain": dict.fromkeys(known, gain),
        "gain_finetuned": dict.fromkeys(known, gain),
    }


CHOICE = {
    "metric": "top1",
    "validation": 0.9,
    "forgotten": 0.07,
    "max_forgetting": None,
    "alpha_without_bound": 1.0,
    "validation_without_bound": 0.9,
}
CURVE = pd.DataFrame(
    [
        (alpha, name, "top1", start + alpha * way)
        for alpha in (0.0, 0.5, 1.0)
        for name, start, way in (("target", 0.4, 0.5), ("base_slice", 0.83, -0.07))
    ],
    columns=["alpha", "set", "metric", "value"],
)

DETAILS = {
    "per_class": [
        {
            "class": "cat",
            "images": 40,
            "base": 0.5,
            "final": 0.75,
            "taken_for": "dog",
            "taken_for_count": 9,
        },
        {
            "class": "dog",
            "images": 60,
            "base": 0.7,
            "final": 0.65,
            "taken_for": "cat",
            "taken_for_count": 21,
        },
        {
            "class": "owl",
            "images": 0,
            "base": None,
            "final": None,
            "taken_for": None,
            "taken_for_count": 0,
        },
    ],
    "calibration": {
        "base": {"ece": 0.2, "bins": [{"confidence": 0.8, "accuracy": 0.6, "images": 100}]},
        "final": {
            "ece": 0.05,
            "bins": [
                {"confidence": 0.5, "accuracy": 0.55, "images": 40},
                {"confidence": 0.9, "accuracy": 0.95, "images": 60},
            ],
        },
    },
    "majority": 0.6,
    "classes_without_images": ["owl"],
}

SLICES = [
    {
        "by": "shorter side",
        "value": "64 to 127 px",
        "images": 50,
        "base": 0.4,
        "final": 0.9,
        "gain": 0.5,
        "low": 0.4,
        "high": 0.6,
        "shown": "gain",
    },
    {
        "by": "label",
        "value": "dog",
        "images": 60,
        "base": 0.7,
        "final": 0.65,
        "gain": -0.05,
        "low": -0.1,
        "high": -0.01,
        "shown": None,
    },
]
PROBE = {
    "knn": {"base": 0.8, "final": 0.9, "gain": {"value": 0.1, "low": 0.05, "high": 0.15}},
    "linear": {"base": 0.9, "final": 0.91, "gain": {"value": 0.01, "low": -0.01, "high": 0.03}},
}
WHOLE = {"slices": SLICES, "probe": PROBE}
"""What the results may hold beside what they must."""

RESULTS = {
    "target": scores(0.42, 0.91, 0.45, 0.53),
    "general": {"base_slice": scores(0.83, 0.76, -0.09, -0.05, images=400)},
    "alpha": 1.0,
    "choice": CHOICE,
}

STAGES = {
    "validate": {
        "read": 20,
        "accepted": 17,
        "rejected": {"caption_empty": 2, "image_missing": 1},
        "images": 12,
    },
    "clean": {
        "read": 17,
        "accepted": 16,
        "rejected": {"pair_repeated": 1},
        "images": 12,
        "changed": {"strip_html": 3, "collapse_space": 0},
        "frequent_phrases": ["buy it now"],
        "labels": {
            "distinct": 10,
            "missing": {"train": 0, "val": 1, "test": None},
            "missing_share": 0.1,
        },
        "near_images": {"pairs": 1, "members": 2, "groups": 1},
        "near_captions": {"pairs": 2, "members": 3, "groups": 1},
        "split": {
            "train": {"pairs": 12, "images": 9},
            "val": {"pairs": 2, "images": 1},
            "test": {"pairs": 2, "images": 2},
        },
    },
    "embed": {
        "images": 12,
        "texts": 15,
        "dim": 8,
        "truncated_share": 0.125,
        "projection_explained": 0.4375,
        "score": {},
        "rejected": {"caption_mismatched": 1200},
        "near": {"pairs": 1234, "across_splits": 56},
        "drift": {"auc": 0.715, "low": 0.68, "high": 0.75, "why": None},
    },
    "finetune": {"best_epoch": 1, "epochs": 2, "train_images": 9, "val_loss": 1.5},
}

PARAMS = {"evaluate": {"confidence": 0.95, "templates": ["a photo of a {}."], "general": "general"}}
MODEL = {"architecture": "ViT-B-32", "training pairs": "c0ffee"}


QUALITY = Quality(
    source={
        "format": "table",
        "columns": {"image": "image", "caption": "text"},
        "guessed": ["caption"],
        "notes": [],
    },
    checks=[
        {
            "name": "rejected",
            "level": "table",
            "about": "share of rows rejected",
            "observed": 0.15,
            "warn": 0.1,
            "stop": 0.5,
            "status": "warned",
        }
    ],
    drift={"reference": None, "figures": {}, "status": "none", "warned": []},
    examples={
        "strip_html": [{"source_row": 7, "before": "a <b>red</b> star", "after": "a red star"}]
    },
    leaks=[
        Leak(
            picture=None,
            image="7.png",
            source_row=7,
            split="train",
            other_picture=None,
            other_image="9.png",
            other_row=9,
            other_split="test",
            reason="near_image_in_two_splits",
            similarity=0.97,
        )
    ],
    leak_count=1,
    labels_missing={"train": [], "val": ["ankle boot"], "test": None},
)


def history() -> pd.DataFrame:
    """Epoch 0, which is the base, and two epochs."""
    return pd.DataFrame(
        {
            "epoch": [0.0, 1.0, 2.0],
            "train_loss": [float("nan"), 1.6, 1.2],
            "val_loss": [2.0, 1.5, 1.7],
            "val_image_to_text_r1": [0.2, 0.5, 0.45],
            "val_text_to_image_r1": [0.1, 0.4, 0.35],
            "lr": [float("nan"), 1e-5, 0.0],
            "logit_scale": [float("nan"), 20.0, 21.0],
        }
    )


def points() -> pd.DataFrame:
    """Pictures where the base model puts them: eight labels, and one picture without."""
    labels = [f"kind {i}" for i in range(8) for _ in range(9 - i)] + [None]
    return pd.DataFrame(
        {
            "x": [i / 10 for i in range(len(labels))],
            "y": [(i * 7 % 10) / 10 for i in range(len(labels))],
            "split": [("train", "val", "test")[i % 3] for i in range(len(labels))],
            "label": pd.Series(labels, dtype=object),
        }
    )


def predictions(*answers: tuple[str | None, str | None, str | None]) -> pd.DataFrame:
    """A row for each (label, base's answer, fine-tuned model's answer); pictures are 0.png, …

    By turns, the caption's rank goes from 1 to 2 and from 3 to 1.
    """
    return pd.DataFrame(
        {
            "image_id": [f"{i:064x}" for i in range(len(answers))],
            "image": [f"{i}.png" for i in range(len(answers))],
            "caption": [f"picture {i}" for i in range(len(answers))],
            "label": pd.Series([label for label, _, _ in answers], dtype=object),
            "base_label": pd.Series([base for _, base, _ in answers], dtype=object),
            "base_score": [0.5] * len(answers),
            "final_label": pd.Series([said for _, _, said in answers], dtype=object),
            "final_score": [0.25 + i / 100 for i in range(len(answers))],
            "base_rank_i2t": [1 + 2 * (i % 2) for i in range(len(answers))],
            "final_rank_i2t": [2 - (i % 2) for i in range(len(answers))],
        }
    )


def searches(*texts: str, name: str = "target") -> pd.DataFrame:
    """Of each text a search both ways among three pictures.

    The first finds its own at once, the others see the two that aren't theirs.
    """
    ids = [f"{i:064x}" for i in range(3)]
    rows = []
    for i, text in enumerate(texts):
        own = ids[i % 3]
        others = [id_ for id_ in ids if id_ != own]
        best, shown = (1, [own, *others]) if i == 0 else (7, others)
        for rank, answer in enumerate(shown, start=1):
            right = answer == own
            rows += [
                (name, "text_to_image", text, own, best, rank, answer, 0.5, right),
                (name, "image_to_text", own, text, best, rank, text, 0.25, right),
            ]
    return pd.DataFrame(rows, columns=list(SEARCH_COLUMNS))


def places(folder: Path, count: int = 500) -> Places:
    """Where the pictures of `predictions` lie."""
    return {f"{i:064x}": Place(folder / f"{i}.png") for i in range(count)}


def draw_pictures(folder: Path, count: int) -> None:
    """0.png, 1.png, …: 200 × 100, each a grey of its own."""
    for i in range(count):
        Image.new("RGB", (200, 100), (i, i, i)).save(folder / f"{i}.png")
