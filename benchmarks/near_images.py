"""Near-duplicate pictures: how many copies are found, what is found that is none, and how fast.

Looks for the copies that the sample plants, and for copies planted on real photographs where they
lie beside the checkout; then times the search on 5,000 to 50,000 made-up signatures. With
IMAGEDEDUP_PYTHON naming an interpreter that has imagededup, its PHash runs on the same pictures.
`make bench NAME=near_images`.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.near_cases import Case, photographs, sample
from pipeline import params as params_of
from pipeline.data.facts import examine
from pipeline.data.signatures import signature
from pipeline.duplicates.images import near_pairs
from pipeline.duplicates.planes import Signatures, planes, stack
from pipeline.params import Params

REAL = Path("../shared/real")
SIZES = (5_000, 10_000, 20_000, 50_000)
CURVE = (0.80, 0.85, 0.88, 0.89, 0.90, 0.91, 0.92, 0.93, 0.95)
RECALL, PRECISION, GROWTH = 0.95, 0.99, 1.1
PHASH_DEFAULT, PHASH_MOST = 10, 24
PHASH = """
import json, sys, time
from imagededup.methods import PHash
start = time.perf_counter()
method = PHash(verbose=False)
codes = method.encode_images(image_dir=sys.argv[1], num_enc_workers=0)
encoded = time.perf_counter() - start
def find(most):
    return method.find_duplicates(
        encoding_map=codes, max_distance_threshold=most, scores=True, num_dist_workers=0)
start = time.perf_counter()
find(int(sys.argv[2]))
found = time.perf_counter() - start
near = [(a, b, int(d)) for a, of in find(int(sys.argv[3])).items() for b, d in of if a < b]
json.dump({"encode": encoded, "find": found, "near": near}, sys.stdout)
"""


def main() -> None:
    """Print a table a set of pictures, then one line of JSON; exit 1 when a goal is missed."""
    least = params_of.load(Params).clean.near_images.min_similarity
    figures: dict[str, Any] = {"min_similarity": least}
    known = []
    with tempfile.TemporaryDirectory() as name:
        cases = {"sample": sample(Path(name))}
        if REAL.is_dir():
            cases["photographs"] = photographs(Path(name), REAL)
        for title, case in cases.items():
            figures[title], signatures = _measure(title, case, least)
            known.append(signatures)
    figures["signature_ms"] = _signature_ms()
    figures["growth"] = _growth(np.concatenate(known), least)
    goals = _goals(figures, list(cases))
    print(json.dumps({**figures, "goals": goals}))
    sys.exit(0 if all(goal["met"] for goal in goals.values()) else 1)


def _goals(figures: dict[str, Any], titles: list[str]) -> dict[str, dict[str, Any]]:
    goals = {}
    for title in titles:
        recall = min(figures[title]["recall"].values())
        precision = figures[title]["precision"]
        goals[f"{title}_recall"] = {"goal": RECALL, "least": recall, "met": recall >= RECALL}
        goals[f"{title}_precision"] = {
            "goal": PRECISION, "share": precision, "met": precision >= PRECISION,
        }  # fmt: skip
    power = figures["growth"]["power_of_n_log_n"]
    goals["growth"] = {"goal": GROWTH, "power_of_n_log_n": power, "met": power <= GROWTH}
    return goals


def _measure(title: str, case: Case, least: float) -> tuple[dict[str, Any], Signatures]:
    start = time.perf_counter()
    signatures = stack([_signed(case.folder / name) for name in case.names])
    signed = time.perf_counter()
    near_pairs(case.names, signatures, min_similarity=least)
    found = time.perf_counter()
    near = near_pairs(case.names, signatures, min_similarity=min(CURVE))
    group = case.groups()
    figures = _quality(near[near["similarity"] >= least], case, group)
    print(f"{title}: {len(case.names)} pictures, {len(case.copies)} of them copies")
    for kind, recall in figures["recall"].items():
        print(f"  {kind:<12}recall {recall:.4f}")
    print(f"  {'precision':<12}{figures['precision']:>13.4f}  of {figures['flagged']} pairs")
    for a, b, value in figures["false"][:10]:
        print(f"    no copies, {value:.4f}: {a} {b}")
    figures["curve"] = {}
    for at in CURVE:
        part = _quality(near[near["similarity"] >= at], case, group)
        figures["curve"][at] = [round(part["all"], 4), round(part["precision"], 4)]
        print(f"  at {at:.2f}: recall {part['all']:.4f}, precision {part['precision']:.4f}")
    figures["seconds"] = {"decode_and_sign": signed - start, "find": found - signed}
    print(f"  decode and sign {signed - start:.2f} s, find {found - signed:.2f} s")
    if "IMAGEDEDUP_PYTHON" in os.environ:
        figures["imagededup"] = _imagededup(Path(os.environ["IMAGEDEDUP_PYTHON"]), case, group)
    return figures, signatures


def _quality(near: pd.DataFrame, case: Case, group: dict[str, str]) -> dict[str, Any]:
    """Recall of copies with their originals by kind, and precision of all pairs."""
    told = set(zip(near["a"], near["b"], strict=True))
    hit = pd.DataFrame(
        [(kind, tuple(sorted((name, of))) in told) for name, (kind, of) in case.copies.items()],
        columns=["kind", "hit"],
    )
    false = [
        (a, b, value)
        for a, b, value in near[["a", "b", "similarity"]].itertuples(index=False)
        if group.get(a, a) != group.get(b, b)
    ]
    return {
        "recall": hit.groupby("kind")["hit"].mean().to_dict(),
        "all": float(hit["hit"].mean()),
        "precision": 1 - len(false) / max(len(near), 1),
        "flagged": len(near),
        "false": sorted(false, key=lambda row: -row[2]),
    }


def _imagededup(python: Path, case: Case, group: dict[str, str]) -> dict[str, Any]:
    """PHash at its default threshold, and at the one with the best F1; seconds, one process."""
    command = [str(python), "-c", PHASH, str(case.folder), str(PHASH_DEFAULT), str(PHASH_MOST)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    near = pd.DataFrame(told["near"], columns=["a", "b", "similarity"])
    at = {most: _quality(near[near["similarity"] <= most], case, group) for most in range(25)}
    best = max(at, key=lambda most: _f1(at[most]))
    for name, most in (("default", PHASH_DEFAULT), ("best", best)):
        print(
            f"  imagededup PHash, {name} threshold {most}: recall {at[most]['all']:.4f} "
            f"({', '.join(f'{k} {v:.3f}' for k, v in at[most]['recall'].items())}), "
            f"precision {at[most]['precision']:.4f}"
        )
    print(f"  imagededup decode and encode {told['encode']:.2f} s, find {told['find']:.2f} s")
    kept = ("recall", "all", "precision")
    return {
        "default": {key: at[PHASH_DEFAULT][key] for key in kept},
        "best": {"threshold": best, **{key: at[best][key] for key in kept}},
        "seconds": {"decode_and_encode": told["encode"], "find": told["find"]},
    }


def _f1(quality: dict[str, Any]) -> float:
    recall, precision = quality["all"], quality["precision"]
    return float(2 * recall * precision / max(recall + precision, 1e-9))


def _growth(known: Signatures, least: float) -> dict[str, Any]:
    """Seconds by number of signatures, one in twenty a copy; the fitted power of n log n."""
    seconds, recall = {}, {}
    for size in SIZES:
        draw = np.random.default_rng(size)
        rows, copies = _made_up(known, size, draw)
        ids = [f"{i:06d}" for i in range(size)]
        start = time.perf_counter()
        near = near_pairs(ids, rows, min_similarity=least)
        seconds[size] = time.perf_counter() - start
        told = set(zip(near["a"], near["b"], strict=True))
        recall[size] = np.mean([(ids[a], ids[b]) in told for a, b in copies])
        print(f"{size:>7,} signatures: {seconds[size]:.2f} s, recall {recall[size]:.4f}")
    work = [math.log(size * math.log(size)) for size in SIZES]
    power = float(np.polyfit(work, [math.log(seconds[size]) for size in SIZES], 1)[0])
    print(f"seconds grow as (n log n)^{power:.2f}")
    return {"seconds": seconds, "recall": recall, "power_of_n_log_n": power}


def _made_up(
    known: Signatures, count: int, draw: np.random.Generator
) -> tuple[Signatures, list[tuple[int, int]]]:
    """Signatures with the statistics of real ones, and the rows (a < b) that are copies.

    Each takes its cosine coefficients by lot from two known signatures. A copy is lighter by up to
    a tenth, with noise.
    """
    rows = np.concatenate([_crossed(known, len(part), draw) for part in _parts(count)])
    copies = count // 20
    light = draw.uniform(0.9, 1.1, size=(copies, 1))
    luma = planes(rows)[0][0].size
    noise = draw.integers(-2, 3, size=(copies, rows.shape[1]))
    changed = rows[:copies].astype(float)
    changed[:, :luma] *= light
    changed[:, luma:] = 128 + (changed[:, luma:] - 128) * light
    rows[-copies:] = np.clip(np.rint(changed) + noise, 0, 255)
    return rows, [(i, count - copies + i) for i in range(copies)]


def _parts(count: int, size: int = 5_000) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def _crossed(known: Signatures, count: int, draw: np.random.Generator) -> Signatures:
    one, two = (planes(known[draw.integers(len(known), size=count)]) for _ in range(2))
    made = []
    for a, b in zip(one, two, strict=True):
        side = a.shape[1]
        wave = np.cos(np.pi * np.arange(side)[:, None] * (np.arange(side) + 0.5) / side)
        wave *= np.sqrt(np.where(np.arange(side) == 0, 1, 2) / side)[:, None]
        lot = draw.random(a.shape) < 0.5
        lot[:, 0, 0] = True
        mixed = np.where(lot, wave @ a.astype(float) @ wave.T, wave @ b.astype(float) @ wave.T)
        made.append(np.clip(np.rint(wave.T @ mixed @ wave), 0, 255).reshape(count, -1))
    return np.concatenate(made, axis=1).astype(np.uint8)


def _signed(path: Path) -> bytes:
    """The signature, taken as validate takes it."""
    return examine(path.read_bytes(), "", max_pixels=10**8).signature


def _signature_ms() -> float:
    """Milliseconds of one signature of a 640×480 picture."""
    picture = Image.effect_noise((640, 480), 80).convert("RGB")
    start = time.perf_counter()
    for _ in range(200):
        signature(picture)
    spent = (time.perf_counter() - start) * 1000 / 200
    print(f"a signature of 640×480: {spent:.3f} ms")
    return spent


if __name__ == "__main__":
    main()
