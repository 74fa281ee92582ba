"""Evaluation on embeddings that are there: time and memory by size, and what intervals cover.

size      made-up embeddings of images with five captions each: every metric, calibration and the
          table of classes, then the intervals of a gain in all metrics. Memory is what a process
          of its own holds at most beyond embeddings and pairs.
coverage  how often a 95 % interval holds the true gain, by drawing sets of images again and again
          from a population that is known: a ratio (images have one to five captions, which share
          their image's difficulty), the mean over classes of uneven size, and a median rank.

Goals: memory at most MEMORY_GOAL bytes whatever the size; coverage within COVERAGE_GOAL.
`make bench NAME=evaluate`. What to measure, else all: CLIPTUNE_BENCH_PARTS (size,coverage),
CLIPTUNE_BENCH_SIZES (1000,10000,100000), CLIPTUNE_BENCH_WIDTH (512), CLIPTUNE_BENCH_TRIALS (2000).
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch

from pipeline.evaluation.bootstrap import Median, Metric, Statistic, paired_gain, paired_gains
from pipeline.evaluation.score import Embedded, scored
from pipeline.evaluation.sets import EvalSet

PARTS = os.environ.get("CLIPTUNE_BENCH_PARTS", "size,coverage").split(",")
SIZES = [int(n) for n in os.environ.get("CLIPTUNE_BENCH_SIZES", "1000,10000,100000").split(",")]
WIDTH = int(os.environ.get("CLIPTUNE_BENCH_WIDTH", "512"))
TRIALS = int(os.environ.get("CLIPTUNE_BENCH_TRIALS", "2000"))
THREADS = 2
CAPTIONS, CLASSES = 5, 100
MEMORY_GOAL = 500e6
COVERAGE_GOAL = (0.93, 0.97)
BOOTSTRAP = {"resamples": 1000, "confidence": 0.95}


def main() -> None:
    """Print tables, then one line of JSON; exit 1 when a goal is missed."""
    found: dict[str, Any] = {}
    goals: dict[str, Any] = {}
    if "size" in PARTS:
        found["size"] = {str(images): measured(images) for images in SIZES}
        for images, one in found["size"].items():
            figure = one["bytes"]
            goals[f"bytes at {images} images"] = {
                "figure": figure, "goal": MEMORY_GOAL, "met": figure <= MEMORY_GOAL,
            }  # fmt: skip
    if "coverage" in PARTS:
        found["coverage"] = {name: coverage(draw) for name, draw in POPULATIONS.items()}
        low, high = COVERAGE_GOAL
        for name, share in found["coverage"].items():
            met = low <= share <= high
            goals[f"coverage of {name}"] = {"figure": share, "goal": COVERAGE_GOAL, "met": met}
    print(json.dumps({"threads": THREADS, "width": WIDTH, "found": found, "goals": goals}))
    sys.exit(any(not goal["met"] for goal in goals.values()))


def measured(images: int) -> dict[str, float]:
    """Seconds and bytes at a size, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.evaluate", "child", str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{images:>9,} images, {CAPTIONS * images:>9,} captions: scores {found['score']:>8.1f} s, "
        f"intervals {found['intervals']:>6.1f} s, {found['bytes'] / 1e6:>5.0f} MB beyond "
        f"{found['given'] / 1e6:,.0f} MB of embeddings",
        flush=True,
    )
    return found


def child(images: int) -> None:
    """Measure one size; a first, small one loads what is loaded once."""
    torch.set_num_threads(THREADS)
    scored(*made(50))
    embedded, data = made(images)
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    metrics = scored(embedded, data).metrics
    between = time.perf_counter()
    paired_gains(metrics, [metrics], seed=0, **BOOTSTRAP)  # type: ignore[arg-type]
    ended = time.perf_counter()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    given = embedded.images.nbytes + embedded.texts.nbytes
    print(
        json.dumps(
            {
                "score": between - began,
                "intervals": ended - between,
                "bytes": most - before,
                "given": given,
            }
        )
    )


def made(images: int) -> tuple[Embedded, EvalSet]:
    """Unit vectors at random, a caption near its image, and a class for each image."""
    random = np.random.default_rng(0)
    owner = np.repeat(np.arange(images), CAPTIONS)
    names = [f"class {number}" for number in range(CLASSES)]
    pairs = pd.DataFrame(
        {
            "image_id": [f"{number:09}" for number in owner],
            "caption": [f"caption {number}" for number in range(len(owner))],
            "label": [names[number % CLASSES] for number in owner],
        }
    )
    images_ND = unit(random.standard_normal((images, WIDTH), dtype=np.float32))
    texts_MD = random.standard_normal((len(owner), WIDTH), dtype=np.float32)
    for number in range(CAPTIONS):
        texts_MD[number::CAPTIONS] += 0.2 * WIDTH**0.5 * images_ND
    weights_CD = unit(random.standard_normal((CLASSES, WIDTH), dtype=np.float32))
    return Embedded(images_ND, unit(texts_MD), weights_CD, 100.0), EvalSet(pairs, names, {})


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scaled in place to unit length."""
    vectors /= np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors


Drawn = tuple[Statistic, Statistic]


def coverage(draw: Callable[[np.random.Generator, int], Drawn]) -> float:
    """The share of intervals that hold the true gain: that of a set of a million images."""
    random = np.random.default_rng(0)
    true = paired_gain(*draw(random, 1_000_000), resamples=1, confidence=0.5, seed=0)["value"]
    held = 0
    for trial in range(TRIALS):
        gain = paired_gain(*draw(random, 400), seed=trial, **BOOTSTRAP)  # type: ignore[arg-type]
        held += gain["low"] <= true <= gain["high"]
    print(f"{draw.__name__:<18} 95 % intervals hold {100 * held / TRIALS:.1f} %", flush=True)
    return held / TRIALS


def ratio(random: np.random.Generator, images: int) -> Drawn:
    """Hits of one to five captions, easy or hard with their image, for both models."""
    counts = random.integers(1, 6, images)
    ease = random.beta(1.5, 1.5, images)
    base = random.binomial(counts, 0.8 * ease)
    finetuned = random.binomial(counts, 0.1 + 0.8 * ease)
    return tuple(  # type: ignore[return-value]
        Metric(hits.astype(float), counts.astype(float)) for hits in (base, finetuned)
    )


def mean_per_class(random: np.random.Generator, images: int) -> Drawn:
    """Right or wrong in ten classes, the rarest of 2 % of the images, some easier than others."""
    shares = np.array([2, 3, 5, 6, 8, 10, 12, 15, 18, 21]) / 100
    groups = random.choice(10, images, p=shares)
    ease = random.beta(1.5, 1.5, images) * (0.5 + groups / 20)
    ones = np.ones(images)
    models = (0.7 * ease, 0.2 + 0.8 * ease)
    return tuple(  # type: ignore[return-value]
        Metric((random.random(images) < share).astype(float), ones, groups) for share in models
    )


def median_rank(random: np.random.Generator, images: int) -> Drawn:
    """Ranks of five captions of each image, half as large after training.

    Among many images: where medians are a few small whole numbers, an interval holds more.
    """
    owner = np.repeat(np.arange(images), CAPTIONS)
    hard = random.exponential(4000, images)[owner]
    models = (hard, hard / 2)
    return tuple(  # type: ignore[return-value]
        Median(np.floor(random.exponential(scale)) + 1, owner) for scale in models
    )


POPULATIONS = {draw.__name__: draw for draw in (ratio, mean_per_class, median_rank)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(int(sys.argv[2]))
    else:
        main()
