"""What the gradient cache costs: memory at growing batches, and time against the one big batch.

A small ViT and text tower, random weights (neither figure depends on them), fp32. Each measurement
is a process of its own that makes a step's gradients: the peak of its resident memory, above what
it held before (model, gradients and threads are there by then), so whatever was allocated counts.
The C library gives blocks of 64 KiB and more back at once meanwhile (MALLOC_MMAP_THRESHOLD_): by
default it keeps holes that no step uses, of the size of a few embeddings, as they happen to fall.
Inputs are made a micro-batch at a time; logits and masks a block of rows at a time.

Goals: the peak at any batch within 10 % of that of a plain batch of the micro-batch's size, plus
the embeddings themselves; the time, against the one big batch where that fits, at most 1.6 ×: one
more forward pass is 1⅓ × of the arithmetic. Turns alternate; the time is the median of the ratios.
`make bench NAME=gradcache`; CLIPTUNE_BENCH_BATCHES sets the batches: 256,1024,4096,16384.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.clip import model as clip_model
from pipeline.clip.losses import Codes, LossName
from pipeline.training import gradcache
from pipeline.training.distributed import ALONE, share

BATCHES = [
    int(n) for n in os.environ.get("CLIPTUNE_BENCH_BATCHES", "256,1024,4096,16384").split(",")
]
MICRO = 64
BLOCK = 32
"""Rows of the loss that exist at a time."""

TURNS = 3
TIMED = 1024
"""The largest batch that is also made in one piece: that takes MICRO's memory 16 times."""

MEMORY_GOAL, TIME_GOAL = 1.1, 1.6
LOSSES: tuple[LossName, ...] = ("info_nce", "sigmoid")
WIDTH = 128
SIDE, LENGTH, WORDS = 64, 16, 1000
CONFIG = {
    "embed_dim": WIDTH,
    "init_logit_bias": -10.0,
    "vision_cfg": {"image_size": SIDE, "patch_size": 16, "width": 192, "layers": 2},
    "text_cfg": {
        "context_length": LENGTH, "vocab_size": WORDS, "width": 128, "heads": 4, "layers": 2,
    },
}  # fmt: skip


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    found: dict[str, Any] = {}
    goals: dict[str, Any] = {}
    for loss in LOSSES:
        plain = np.median([_child("plain", loss, MICRO, exact=True)["bytes"] for _ in range(TURNS)])
        print(
            f"\n{loss}: a plain batch of {MICRO} takes {plain / 1e6:.1f} MB\n"
            f"{'batch':>8}{'MB':>9}{'embeddings':>12}{'goal':>9}{'by default':>12}{'seconds':>10}"
        )
        found[loss] = {"plain_bytes": float(plain), "batches": {}}
        for batch in BATCHES:
            step = _child("cached", loss, batch, exact=True)
            usual = _child("cached", loss, batch)
            embeddings = 2 * batch * WIDTH * 4
            limit = MEMORY_GOAL * plain + embeddings
            print(f"{batch:>8,}{step['bytes'] / 1e6:>9.1f}{embeddings / 1e6:>12.1f}"
                  f"{limit / 1e6:>9.1f}{usual['bytes'] / 1e6:>12.1f}"
                  f"{usual['seconds']:>10.1f}")  # fmt: skip
            sizes = {"bytes": step["bytes"], "embeddings": embeddings}
            found[loss]["batches"][batch] = {**sizes, "by_default": usual}
            goals[f"{loss} bytes at {batch}"] = _goal(step["bytes"], limit)
    for batch in [n for n in BATCHES if n <= TIMED]:
        ratios, peak = _turns(batch)
        print(f"\n{batch:,} in micro-batches: {np.median(ratios):.2f} × the time of one big batch, "
              f"which takes {peak / 1e6:.0f} MB")  # fmt: skip
        found[f"time of {batch}"] = {"ratios": ratios, "big_batch_bytes": peak}
        goals[f"time of {batch}"] = _goal(float(np.median(ratios)), TIME_GOAL)
    print(json.dumps({"micro_batch": MICRO, "found": found, "goals": goals}))
    sys.exit(any(not goal["met"] for goal in goals.values()))


def _goal(figure: float, goal: float) -> dict[str, Any]:
    return {"figure": round(figure, 3), "goal": round(goal, 3), "met": bool(figure <= goal)}


def _turns(batch: int) -> tuple[list[float], float]:
    """Time in micro-batches by that of the one big batch, turn by turn; and the latter's bytes."""
    ratios, peaks = [], []
    for _ in range(TURNS):
        whole, cached = (_child(kind, "info_nce", batch) for kind in ("plain", "cached"))
        ratios.append(cached["seconds"] / whole["seconds"])
        peaks.append(whole["bytes"])
    return ratios, max(peaks)


def _child(kind: str, loss: str, batch: int, *, exact: bool = False) -> dict[str, float]:
    """Bytes and seconds of one step in a process of its own; `exact`: without malloc's holes."""
    command = [sys.executable, "-m", "benchmarks.gradcache", kind, loss, str(batch)]
    environ = {**os.environ, **({"MALLOC_MMAP_THRESHOLD_": str(2**16)} if exact else {})}
    done = subprocess.run(command, check=True, capture_output=True, env=environ)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(kind: str, name: LossName, batch: int) -> None:
    """What `_child` runs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "small-vit-bench.json"
        file.write_text(json.dumps(CONFIG))
        model = clip_model.create("small-vit-bench", file, seed=0).model.train()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    _step(model, "plain", name, 4)  # what is loaded or made at the first step, is not the batch's
    before = _resident()
    start = time.perf_counter()
    _step(model, kind, name, batch)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"bytes": peak - before, "seconds": seconds}))


def _resident() -> int:
    """Bytes now: within some 2 MB of the most so far, so that no step's peak hides below that."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _step(model: nn.Module, kind: str, name: LossName, batch: int) -> None:
    codes = Codes(torch.arange(batch), torch.arange(batch) // 2)

    def loss(image: Tensor, text: Tensor) -> Tensor:
        return share(
            name, image, text, codes,
            scale=model.logit_scale.exp(), bias=model.logit_bias if name == "sigmoid" else None,
            same_label="negative", world=ALONE, block=min(BLOCK, batch // 2),
        )  # fmt: skip

    def images(rows: range) -> Tensor:
        features: Tensor = model.encode_image(_pixels(rows), normalize=True)
        return features

    def texts(rows: range) -> Tensor:
        features: Tensor = model.encode_text(_tokens(rows), normalize=True)
        return features

    everything = range(batch)
    if kind == "plain":
        loss(images(everything), texts(everything)).backward()
        return
    cut = [everything[start : start + MICRO] for start in range(0, batch, MICRO)]
    gradcache.backward(
        loss, embed_images=images, images=cut, embed_texts=texts, texts=cut, model=model,
        device=torch.device("cpu"),
    )  # fmt: skip


def _pixels(rows: range) -> Tensor:
    random = torch.Generator().manual_seed(rows.start)
    return torch.randn(len(rows), 3, SIDE, SIDE, generator=random)


def _tokens(rows: range) -> Tensor:
    random = torch.Generator().manual_seed(rows.start)
    return torch.randint(1, WORDS, (len(rows), LENGTH), generator=random)


if __name__ == "__main__":
    if sys.argv[1:]:
        child(sys.argv[1], sys.argv[2], int(sys.argv[3]))  # type: ignore[arg-type]
    else:
        main()
