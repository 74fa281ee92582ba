"""Our evaluation beside CLIP_benchmark's: the same figures on the same model, images and captions?

The base model of the sample on 500 images of its slice, with the captions that occur once: both
tables, and the time of the peer's two commands (classification, retrieval) beside ours, which
embeds once. A larger model, `ViT-B-32` with random weights, shows the time where embedding weighs
more; its figures are chance, and its scores so alike that fp32's last digits rank them.

Goals: no metric differs by more than 1e-6; 3.5 × as fast, imports and all. It needs
CLIP_BENCHMARK_PYTHON (benchmarks/clip_benchmark.py). `make bench NAME=parity`, after `make repro`.
What to measure, else all: CLIPTUNE_BENCH_MODELS (sample,ViT-B-32), CLIPTUNE_BENCH_TURNS (3).
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import clip_benchmark as peer
from benchmarks.embed import saved

MODELS = os.environ.get("CLIPTUNE_BENCH_MODELS", "sample,ViT-B-32").split(",")
TURNS = int(os.environ.get("CLIPTUNE_BENCH_TURNS", "3"))
BASE = Path("samples/base_model/out")
SOURCE = Path("samples/base_model/general/base_slice")
IMAGES = 500
NEAR = 1e-6
SPEED_GOAL = 3.5


def main() -> None:
    """Print tables, then one line of JSON; exit 1 when a goal is missed."""
    if not peer.PYTHON:
        raise SystemExit("CLIP_BENCHMARK_PYTHON is not set: see benchmarks/clip_benchmark.py")
    if not BASE.is_dir() or not SOURCE.is_dir():
        raise SystemExit("the sample is not there: `make repro` makes it and its base model")
    found, goals = {}, {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        peer.laid_out(SOURCE, root / "data", images=IMAGES)
        for model in MODELS:
            folder = BASE
            if model != "sample":
                folder = root / model
                saved(model, folder)
            found[model] = compared(model, folder, root / "data")
    for model, one in found.items():
        if model == "sample":
            goals["difference"] = goal(one["difference"], NEAR, one["difference"] <= NEAR)
        goals[f"speed {model}"] = goal(one["ratio"], SPEED_GOAL, one["ratio"] >= SPEED_GOAL)
    print(json.dumps({"images": IMAGES, "found": found, "goals": goals}))
    sys.exit(any(not one["met"] for one in goals.values()))


def compared(name: str, model: Path, data: Path) -> dict[str, Any]:
    """Both tables of a model, and the median of the ratios of both times, turn by turn."""
    architecture = peer.SAMPLE if name == "sample" else name
    turns = [(peer.theirs(model, data), peer.ours(model, data, architecture)) for _ in range(TURNS)]
    theirs, ours = turns[0]
    print(f"\n{name:<20}{'CLIP_benchmark':>16}{'ours':>16}")
    for metric, figure in theirs.metrics.items():
        print(f"{metric:<20}{figure:>16.8f}{ours.metrics[metric]:>16.8f}")
    seconds = np.median([[a.seconds, b.seconds] for a, b in turns], axis=0)
    ratio = float(np.median([a.seconds / b.seconds for a, b in turns]))
    print(f"{'seconds':<20}{seconds[0]:>16.1f}{seconds[1]:>16.1f}   {ratio:.2f} ×", flush=True)
    return {
        "theirs": theirs.metrics,
        "ours": ours.metrics,
        "difference": max(abs(theirs.metrics[k] - ours.metrics[k]) for k in theirs.metrics),
        "seconds": {"theirs": seconds[0], "ours": seconds[1]},
        "ratio": ratio,
    }


def goal(figure: float, wanted: float, met: bool) -> dict[str, Any]:
    """A figure beside its goal."""
    return {"figure": figure, "goal": wanted, "met": met}


if __name__ == "__main__":
    main()
