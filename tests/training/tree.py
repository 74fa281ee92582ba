"""A work tree to fine-tune in: real pictures, a tiny model, params.yaml, as the stage finds it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from pipeline import params as params_of
from pipeline import paths
from pipeline.artifacts import sha256_of
from pipeline.clip.model import Clip
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table
from pipeline.evaluation.retrieval import recalls
from pipeline.params import FinetuneStage
from pipeline.registry import bundle
from pipeline.training import job
from pipeline.training.job import Finetuned
from tests.drawing import ROOT

SETTINGS: dict[str, Any] = {"distil": 0.0, "epochs": 8, "batch_size": 5, "lr": "1.0e-4", "ema": 0.9}
"""Of 12 pictures two batches an epoch, which two processes share out as 3 and 2."""

STEPS = 16


def make(folder: Path, clip: Clip, **changes: Any) -> None:
    """Fill `folder`, which is the current one and holds captions.csv and its images."""
    bundle.save(Path("models/base"), clip, record={})
    rows = pd.read_csv("captions.csv")
    frame = rows.assign(
        image_id=[sha256_of(Path(image)) for image in rows.image], file=rows.image,
        pair=range(1, 17), source_row=range(1, 17), packed=False, width=48, height=40,
        split=["train"] * 12 + ["val"] * 4,
    )  # fmt: skip
    paths.SELECTED.mkdir(parents=True)
    write_table(frame.reindex(columns=PAIR.names), PAIR, paths.SELECTED / PAIRS_FILE)
    head, found, tail = (ROOT / "params.yaml").read_text().partition("\nfinetune:\n")
    head = head.replace("../samples/base_model/out", "../models/base")
    head = head.replace("samples/scenes/out", str(folder))
    for key, value in (SETTINGS | changes).items():
        tail, count = re.subn(rf"(?m)^  {key}: .*$", f"  {key}: {value}", tail, count=1)
        assert count == 1, key
    paths.PARAMS.write_text(head + found + tail)


def finetune(log: Callable[[Any, int], object] = lambda values, step: None) -> Finetuned:
    """What the stage `finetune` does in the current folder, without its run."""
    params = params_of.load(FinetuneStage)
    return job.finetune(
        paths.SELECTED, Path(params.source), params.finetune, packed=paths.PACKED,
        base=params.model, seed=params.seed, cpu_threads=params.cpu_threads, cache=paths.EMBEDDED,
        recalls=recalls, log=log, history_file=paths.HISTORY, crops=paths.CROPS,
        checkpoints=paths.CHECKPOINTS, failed=paths.failed_folder("finetune"),
        each="stages.finetune_rank",
    )  # fmt: skip


def history() -> pd.DataFrame:
    """What the last training left: a row for each epoch."""
    return pd.read_csv(paths.HISTORY)


def checkpoints() -> list[int]:
    """The steps of which there are checkpoints."""
    found = paths.CHECKPOINTS.glob("*/step-*.safetensors")
    return sorted(int(file.name.split("-")[1]) for file in found)


def rank(number: int) -> psutil.Process | None:
    """The process of this number that descends from this one, if there is one."""
    for process in psutil.Process().children(recursive=True):
        try:
            if process.environ().get("RANK") == str(number):
                return process
        except psutil.Error:
            continue
    return None
