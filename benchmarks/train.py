"""Our training beside OpenCLIP's own trainer: speed, memory, and what the models are worth.

`open_clip_train.main` reads the same pictures and captions from a CSV and trains the same base in
the same precision (fp32), with the same optimiser, rates, batch and share of warm-up, on the same
two cores; both vary pictures alike, by a box of at least 0.9 of their area. Ours takes one caption
of a picture in an epoch, OpenCLIP's all of them, so that it gets as many epochs as make at least as
many steps. All else each does as it does by default: ours validates after each epoch and keeps the
best one, OpenCLIP's does neither. It decodes in two processes, and its threads wait asleep as ours
do (benchmarks/threads.py): its best on two cores.

speed    `ViT-B-32` (random weights) on made pictures of 640×480, and again where ten captions
         repeat; the sample; `clothing`, real photographs with ten captions. Turns alternate. An
         epoch's time is that of its steps with all that they wait for, without validating and
         saving. Memory is the most that a trainer's processes hold at once.
quality  the sample and `clothing`, seeds 0, 1, 2: both models' scores in fp32, by the evaluation
         stage's own code, on the test split and on the base's own slice, where forgetting shows.
         Beside them ours without multi-positives, each pair the other pairs' negative, and ours
         that pulls embeddings toward the base's, as the sample does, and a quarter as much.

Goals: ours ÷ OpenCLIP's. `make bench NAME=train`, after `make repro`. What to measure, else all:
CLIPTUNE_BENCH_PARTS (speed,quality), CLIPTUNE_BENCH_CASES
(ViT-B-32,ViT-B-32-repeats,sample,clothing), CLIPTUNE_BENCH_IMAGES (128, of the ViT),
CLIPTUNE_BENCH_TURNS (3), CLIPTUNE_BENCH_SEEDS (3), CLIPTUNE_BENCH_VARIANTS (by `;`).
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train_cases import Case, cases
from benchmarks.train_sides import THEIRS, THREADS, Run, ours, theirs
from pipeline import params as params_of
from pipeline.clip import device as devices
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.evaluation.bootstrap import value
from pipeline.evaluation.headline import HEADLINES
from pipeline.evaluation.score import score
from pipeline.evaluation.sets import EvalSet
from pipeline.params import Params

PARTS = os.environ.get("CLIPTUNE_BENCH_PARTS", "speed,quality").split(",")
CASES = os.environ.get(
    "CLIPTUNE_BENCH_CASES", "ViT-B-32,ViT-B-32-repeats,sample,clothing"
).split(",")  # fmt: skip
IMAGES = int(os.environ.get("CLIPTUNE_BENCH_IMAGES", "128"))
TURNS = int(os.environ.get("CLIPTUNE_BENCH_TURNS", "3"))
SEEDS = int(os.environ.get("CLIPTUNE_BENCH_SEEDS", "3"))
MEMORY_GOAL = 1.0
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, no twins told": {"told": False},
    "ours, distil 0.25": {"distil": 0.25},
    "ours, distil 1": {"distil": 1.0},
}
WANTED = os.environ.get("CLIPTUNE_BENCH_VARIANTS", ";".join(VARIANTS)).split(";")
Scores = dict[str, float]


def main() -> None:
    """Print tables, then one line of JSON; exit 1 when a goal is missed."""
    found: dict[str, Any] = {}
    goals: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, case in cases(CASES, root, images=IMAGES):
            found[name] = {"data": case.counts()}
            print(f"\n{name}: {_said(found[name]['data'])}, batch {case.asked['batch_size']}")
            if "speed" in PARTS:
                found[name]["speed"] = speed(case, root / "speed")
                goals |= {f"{name} {k}": v for k, v in speed_goals(case, found[name]).items()}
            if "quality" in PARTS and case.epochs is not None:
                found[name]["quality"] = quality(case, root / "quality")
                goals |= {f"{name} {k}": v for k, v in quality_goals(case, found[name]).items()}
    print(json.dumps({"threads": THREADS, "found": found, "goals": goals}))
    sys.exit(any(not goal["met"] for goal in goals.values()))


def _said(counts: dict[str, float]) -> str:
    return (
        f"{counts['pairs']:,} pairs of {counts['pictures']:,} pictures, {counts['captions']:,} "
        f"captions of {counts['tokens']:.1f} tokens in the mean"
    )


def speed(case: Case, folder: Path) -> dict[str, Any]:
    """Pairs a second and memory of both, and their ratios, medians of the turns."""
    turns = []
    for turn in range(TURNS):
        runs = {}
        for who in (THEIRS, "ours"):
            runs[who] = train(who, case, folder, asked=case.asked, seed=turn)[0]
            shutil.rmtree(folder)
        turns.append({who: figures(run) for who, run in runs.items()})
    found = summary(turns)
    print(f"{'pairs a second':<24}{'first epoch':>12}{'later':>9}{'MB':>8}{'seconds':>9}")
    for who, one in found["median"].items():
        print(f"{who:<24}{one['first']:>12.2f}{one['later']:>9.2f}{one['bytes'] / 1e6:>8.0f}"
              f"{one['wall']:>9.1f}")  # fmt: skip
    one = found["ratio"]
    print(f"{'ratio':<24}{one['first']:>12.2f}{one['later']:>9.2f}{one['bytes']:>8.2f}"
          f"{one['wall']:>9.2f}")  # fmt: skip
    return found


def train(
    who: str, case: Case, folder: Path, *, asked: dict[str, Any], seed: int
) -> tuple[Run, Clip]:
    """Train by OpenCLIP's trainer, or by one of VARIANTS of ours."""
    where = (folder, case.selected, case.source, case.base, case.architecture)
    if who == THEIRS:
        return theirs(*where, asked=asked, seed=seed)
    changes = dict(VARIANTS[who])
    told = changes.pop("told", True)
    return ours(*where, asked={**asked, **changes}, seed=seed, told=told)


def figures(run: Run) -> dict[str, float]:
    """Pairs a second in the first epoch and in the others; bytes and seconds of the whole."""
    later = run.seconds[1:]
    return {
        "first": run.pairs / run.seconds[0],
        "later": run.pairs * len(later) / sum(later) if later else float("nan"),
        "bytes": float(run.bytes),
        "wall": run.wall,
    }


def summary(turns: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Medians of both sides' turns, and of the ratios turn by turn."""
    keys = turns[0]["ours"]
    return {
        "median": {
            who: {key: float(np.median([turn[who][key] for turn in turns])) for key in keys}
            for who in turns[0]
        },
        "ratio": {
            key: float(np.median([turn["ours"][key] / turn[THEIRS][key] for turn in turns]))
            for key in keys
        },
        "turns": turns,
    }


def speed_goals(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    """Each ratio beside its goal: speed at least, memory at most."""
    ratio = found["speed"]["ratio"]
    goals = {key: _goal(ratio[key], goal, ratio[key] >= goal) for key, goal in case.goals.items()}
    return {**goals, "memory": _goal(ratio["bytes"], MEMORY_GOAL, ratio["bytes"] <= MEMORY_GOAL)}


def _goal(figure: float, goal: float, met: bool) -> dict[str, Any]:
    return {"figure": round(figure, 4), "goal": goal, "met": met}


def quality(case: Case, folder: Path) -> dict[str, Any]:
    """Scores of the base and of what each trainer makes of it, by seed."""
    data = case.sets(folder / "scratch")
    kept = {name: Crops(case.model(), one.places) for name, one in data.items()}
    base = scored(case.model(), data, kept)
    asked = {**case.asked, "epochs": case.epochs}
    by_seed: dict[str, list[Scores]] = {who: [] for who in (THEIRS, *WANTED)}
    best: dict[str, list[int]] = {who: [] for who in by_seed}
    for seed in range(SEEDS):
        for who, scores in by_seed.items():
            run, clip = train(who, case, folder / "run", asked=asked, seed=seed)
            shutil.rmtree(folder / "run")
            scores.append(scored(clip, data, kept))
            best[who].append(run.best)
    means = {who: mean_and_spread(scores) for who, scores in by_seed.items()}
    gains = {
        who: mean_and_spread(
            [{k: a[k] - b[k] for k in a} for a, b in zip(scores, by_seed[THEIRS], strict=True)]
        )
        for who, scores in by_seed.items()
        if who != THEIRS
    }
    _show(base, means, gains)
    return {"base": base, "means": means, "gains": gains, "by_seed": by_seed, "best_epoch": best}


def scored(clip: Clip, data: dict[str, EvalSet], crops: dict[str, Crops]) -> Scores:
    """What HEADLINES say of a model on each set, in fp32, where they say something."""
    device = devices.prepare(cpu_threads=THREADS)
    asked = params_of.load(Params).evaluate
    found = {}
    for name, one in data.items():
        metrics = score(clip, one, crops[name], asked, device=device).metrics
        found |= {f"{name} {key}": value(metrics[key]) for key in HEADLINES if key in metrics}
    return found


def mean_and_spread(scores: list[Scores]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over the seeds (0 where there is but one)."""
    some = min(len(scores) - 1, 1)
    return {
        key: (
            float(np.mean([one[key] for one in scores])),
            float(np.std([one[key] for one in scores], ddof=some)),
        )
        for key in scores[0]
    }


def _show(base: Scores, means: dict[str, Any], gains: dict[str, Any]) -> None:
    """Percentages: mean ± standard deviation over the seeds; with + what ours has more."""
    width = max(len(key) for key in base) + 3
    print(f"{'percent':<32}" + "".join(f"{key:>{width}}" for key in base))
    print(f"{'base':<32}" + "".join(f"{100 * x:>{width}.1f}" for x in base.values()))
    for who, one in means.items():
        cells = [f"{100 * mean:.1f} ± {100 * off:.1f}" for mean, off in one.values()]
        print(f"{who:<32}" + "".join(f"{cell:>{width}}" for cell in cells))
        if who in gains:
            cells = [f"{100 * mean:+.1f} ± {100 * off:.1f}" for mean, off in gains[who].values()]
            print(f"{'  more than ' + THEIRS:<32}" + "".join(f"{cell:>{width}}" for cell in cells))


def quality_goals(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    """Ours ahead, in the mean over the seeds: at the target, and in what is kept of the base.

    One variant must be ahead in all: the figures are those of the one whose least gain is largest.
    """
    gains = found["quality"]["gains"]
    kept = [key for key in next(iter(gains.values())) if not key.startswith("target")]
    wanted = [f"target {key}" for key in case.targets]
    wanted += [key for key in kept if key.endswith("top1")]
    best = max(gains.values(), key=lambda one: min(one[key][0] for key in wanted))
    return {key: _goal(best[key][0], 0.0, best[key][0] > 0) for key in wanted}


if __name__ == "__main__":
    main()
