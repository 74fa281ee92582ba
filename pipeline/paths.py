"""Where each artifact lives, relative to the work tree. Nothing else spells a path."""

import os
from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")

CHECKED = Path("data/checked.json")
VALID = Path("data/valid")
PACKED = Path("data/images")
"""Tar files of pictures that came inside other files; always there, and often without a tar."""

QUALITY = Path("data/quality")
"""What validate found of the table as a whole: Data Docs, expectations, profile, drift."""

ACCEPTED = Path("data/accepted.json")
"""Profiles of the data that were last accepted; in git, written by `cliptune accept`."""

ACCEPTED_EMBEDDINGS = Path("data/accepted_embeddings.json")
"""Likewise of their embeddings: a small sample of each."""

CLEAN = Path("data/clean")
EMBEDDINGS = Path("data/embeddings")
SELECTED = Path("data/selected")
"""Clean pairs without those that the base model finds mismatched, and those, with the reason."""

FINETUNED = Path("models/finetuned")
FINAL = Path("models/final")
"""The chosen point between base and fine-tuned model: the one to use."""

MANIFEST = "cliptune.json"
"""In a model folder: architecture, and where its weights come from."""

PREDICTIONS = Path("data/predictions")

METRICS = Path("metrics")
RETRAINED = METRICS / "history.csv"
"""A line for each model that `cliptune retrain` judged; in git."""

PLOTS = Path("plots")
HISTORY = PLOTS / "finetune.csv"
PROJECTION = PLOTS / "projection.csv"
"""Where pictures lie to the base model, in two dimensions."""

CURVE = PLOTS / "interpolation.csv"
"""What each point between base and fine-tuned model is worth, by set."""

RUNS = Path("runs")
REPORT = Path("reports/index.html")
FIGURES = REPORT.parent / "figures"
"""The charts of the report, one by one."""

HUB = Path("hub")
"""Base models fetched by tag; `model.pretrained` is a name or a path from here."""

WORK = Path(".cliptune")
"""Ignored by git and DVC: the spool of a dead tracking server, locks, caches, checkpoints."""

IMAGE_FACTS = WORK / "images.sqlite"
"""What is known of each image's content, so that no run decodes the same bytes again."""

EMBEDDED = WORK / "embeddings"
"""Vectors by content and by how they were computed, so that no run computes one again."""

CHECKPOINTS = WORK / "checkpoints"
"""What a training that was stopped goes on from; gone when it is done."""

CROPS = WORK / "crops"
"""Decoded and resized pictures by content and by how they were made, for training."""

SEARCHED = WORK / "search.html"
"""The page of the last search."""

LEAKING = WORK / "leaks.html"
"""The page of `cliptune leaks`."""

REPORT_OF_RUN = WORK / "run/reports"
"""The pages of the report with the facts of the last run."""

RETRAINING = WORK / "retrain"
"""What the last `cliptune retrain` did: summary.md, summary.json."""

GENERAL = WORK / "general"
"""Pictures of general sets that came inside other files."""


def shared(path: Path) -> Path:
    """A path in the main checkout, also from a copy of it that DVC made for an experiment."""
    return Path(os.environ.get("DVC_ROOT", ".")) / path


def failed_folder(stage: str) -> Path:
    """What `stage` had found when it stopped; outside its outputs, which DVC deletes."""
    return WORK / "last_failed" / stage


def metrics_file(stage: str) -> Path:
    """What `stage` found: the same for the same inputs, on every run."""
    return METRICS / f"{stage}.json"


def receipt_file(stage: str) -> Path:
    """Which MLflow run made the outputs of `stage`."""
    return RUNS / f"{stage}.json"
