"""An epoch of `lit` and `head` with their frozen towers known beforehand, beside one without.

The same loop, pictures, captions and seed; random weights (times don't depend on them). Without a
table a frozen tower is computed in each step and in each validation, without a graph. An epoch is
the second or a later one, so that pictures are decoded already on both sides; steps and validation
count, the making of the table is told apart: it is paid once, and by no later run.

Goal: each epoch in a tenth of the time. `lit` still trains the text tower, so it gains no more than
the image tower's part in the whole. `make bench NAME=cached_towers`; CLIPTUNE_BENCH_IMAGES sets the
pictures (320, of which a fifth validates).
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.embed import make, saved
from pipeline import params as params_of
from pipeline.clip import device as devices
from pipeline.clip import model as clip_model
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_of
from pipeline.evaluation.retrieval import recalls
from pipeline.params import Params
from pipeline.training import auto
from pipeline.training.auto import Settled
from pipeline.training.finetune import fit
from pipeline.training.known import NOTHING, known

IMAGES = int(os.environ.get("CLIPTUNE_BENCH_IMAGES", "320"))
THREADS = 2
TURNS = {"ViT-B-32": 1, "scenes-resnet": 3}
METHODS = ("lit", "head")
GOAL = 10.0


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        pairs = make(root / "source", IMAGES, sizes=((320, 240),))
        pairs["split"] = np.where(np.arange(len(pairs)) < 0.8 * len(pairs), "train", "val")
        print(f"{'':<22}{'without':>10}{'with':>10}{'ratio':>8}{'table, once':>13}")
        for architecture, turns in TURNS.items():
            saved(architecture, root / architecture)
            for method in METHODS:
                figures = compare(root, architecture, pairs, method=method, turns=turns)
                found[f"{architecture} {method}"] = figures
                print(f"{architecture + ' ' + method:<22}{figures['without']:>9.2f}s"
                      f"{figures['with']:>9.3f}s{figures['ratio']:>8.1f}"
                      f"{figures['table']:>12.1f}s")  # fmt: skip
    goals = {
        name: {"figure": round(one["ratio"], 2), "goal": GOAL, "met": one["ratio"] >= GOAL}
        for name, one in found.items()
    }
    print(json.dumps({"images": IMAGES, "found": found, "goals": goals}))
    sys.exit(any(not goal["met"] for goal in goals.values()))


def compare(
    root: Path, architecture: str, pairs: pd.DataFrame, *, method: str, turns: int
) -> dict[str, float]:
    """Seconds of an epoch without and with a table, medians of turns, and of making the table."""
    asked = params_of.load(Params).finetune.model_copy(
        update={"method": method, "batch_size": 64, "epochs": 2, "augment": None, "distil": 0.0}
    )
    params = auto.settled(asked, images=len(pairs), parameters=auto.LARGE)
    without, with_, making = [], [], []
    for _ in range(turns):
        without += epochs(root, architecture, pairs, params, table=False)[0]
        rest, seconds = epochs(root, architecture, pairs, params, table=True)
        with_ += rest
        making.append(seconds)
    return {
        "without": float(np.median(without)),
        "with": float(np.median(with_)),
        "ratio": float(np.median(np.divide(without, with_))),
        "table": making[0],
    }


def epochs(
    root: Path, architecture: str, pairs: pd.DataFrame, params: Settled, *, table: bool
) -> tuple[list[float], float]:
    """Seconds of each epoch but the first, and of what came before training."""
    device = devices.prepare(cpu_threads=THREADS)
    clip = clip_model.load(root / architecture, architecture=architecture)
    places = places_of(pairs, source=root / "source", packed=root)
    train, val = (pairs[pairs["split"] == part].reset_index(drop=True) for part in ("train", "val"))
    start = time.perf_counter()
    given = NOTHING
    if table:
        given = known(
            clip, pairs, places, params, seed=0, device=device, cpu_threads=THREADS,
            cache=root / "cache",
        )  # fmt: skip
    made = time.perf_counter() - start
    ends: list[float] = []

    def log(values: Mapping[str, float], _step: int) -> None:
        if "epoch" in values:
            ends.append(time.perf_counter())

    torch.manual_seed(0)
    fit(
        clip, train, val, crops=Crops(clip, places), params=params, seed=0, recalls=recalls,
        log=log, device=device, known=given,
    )  # fmt: skip
    return np.diff(ends)[1:].tolist(), made


if __name__ == "__main__":
    main()
