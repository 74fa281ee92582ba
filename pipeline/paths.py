"""Where each artifact lives, relative to the work tree. Nothing else spells a path."""

from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")

CHECKED = Path("data/checked.json")
VALID = Path("data/valid")
CLEAN = Path("data/clean")
EMBEDDINGS = Path("data/embeddings")
FINETUNED = Path("models/finetuned")
MANIFEST = "cliptune.json"
"""In a model folder: architecture, and where its weights come from."""

PREDICTIONS = Path("data/predictions")

METRICS = Path("metrics")
PLOTS = Path("plots")
HISTORY = PLOTS / "finetune.csv"
RUNS = Path("runs")
REPORT = Path("reports/index.html")

HUB = Path("hub")
"""Base models fetched by tag; `model.pretrained` is a name or a path from here."""

WORK = Path(".cliptune")
"""Ignored by git and DVC: the spool of a dead tracking server, locks."""


def metrics_file(stage: str) -> Path:
    """What `stage` found: the same for the same inputs, on every run."""
    return METRICS / f"{stage}.json"


def receipt_file(stage: str) -> Path:
    """Which MLflow run made the outputs of `stage`."""
    return RUNS / f"{stage}.json"
