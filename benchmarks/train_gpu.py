"""Training on a GPU beside OpenCLIP's own trainer: pairs/s, TFLOP/s, and what limits them.

Makes JPEGs of 640×480 with a caption each and trains models with random weights for two epochs in
bf16 autocast, by our finetune stage's call and by `open_clip_train.main` (train_sides.py), in turn,
with the same optimiser, rates and batch and all cores for pictures. Where a batch does not fit the
memory, ours takes micro-batches (the gradient cache) and OpenCLIP's accumulates (--accum-freq): for
each the fewest that fit, found by trying. Neither is held to deterministic kernels. OpenCLIP's
processes are a core each, or fewer where their batches would not fit in /dev/shm.

pairs/s     of an epoch's steps with all that they wait for, without validating and saving. Ours
            keeps decoded pictures after the first epoch; a later one shows that.
TFLOP/s     forward and backward of each trainer's own tokens, as torch's flop counter counts them,
            times pairs/s of the later epoch. A second forward counts as time and not as work. Ours
            cuts texts to the longest of a batch: it has less to do for the same gradient.
bottleneck  each part of a batch timed alone (train_gpu_parts.py): pictures, if making them takes
            longer than all else, which runs beside it; otherwise the longest of the other parts.

An epoch of few batches is against OpenCLIP's trainer: each of its processes makes whole batches, so
with no more batches than processes none of them works ahead of the GPU.

Goal: in the later epoch at least as many pairs a second as OpenCLIP's. `make bench NAME=train_gpu`,
on a machine with a GPU. What to measure, else all, which takes an hour or more:
CLIPTUNE_BENCH_MODELS (ViT-B-32,ViT-B-16,ViT-L-14), CLIPTUNE_BENCH_BATCHES (1024,4096,16384),
CLIPTUNE_BENCH_IMAGES (32768: pictures an epoch, at least a batch). For 10 minutes of an H100: one
model at a time, ViT-L-14 with a batch at a time and pictures as many as the batch.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.embed import saved
from benchmarks.train import figures
from benchmarks.train_cases import asked_for, made_pairs
from benchmarks.train_sides import THEIRS, Run, ours, theirs
from pipeline.clip import device as devices
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table

MODELS = os.environ.get("CLIPTUNE_BENCH_MODELS", "ViT-B-32,ViT-B-16,ViT-L-14").split(",")
BATCHES = [int(n) for n in os.environ.get("CLIPTUNE_BENCH_BATCHES", "1024,4096,16384").split(",")]
IMAGES = int(os.environ.get("CLIPTUNE_BENCH_IMAGES", "32768"))
GOAL = 1.0
ALONGSIDE = ("pictures", "pictures again")
"""Parts that run beside all others, in the first and in a later epoch."""

SIDES = (THEIRS, "ours")
Found = dict[str, dict[int, dict[str, Any]]]


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    if not torch.cuda.is_available():
        sys.exit("no GPU here: this measures one (make bench NAME=train measures the CPU)")
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        for model, batch, one in compare(
            MODELS, BATCHES, Path(folder), images=IMAGES, device="cuda"
        ):
            found.setdefault(model, {})[batch] = one
            print("\n".join(table(model, batch, one)), flush=True)
    wanted = goals(found)
    print(
        json.dumps(
            {"gpu": torch.cuda.get_device_name(), "cores": devices.cores(), "images": IMAGES,
             "found": found, "goals": wanted}
        )
    )  # fmt: skip
    sys.exit(not wanted or not all(goal["met"] for goal in wanted.values()))


def compare(
    models: list[str], batches: list[int], root: Path, *, images: int, device: str, most: int = 0
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Model, batch, and what was found of each trainer; `most` rows at once, 0: as many as fit.

    A batch of more than `images` pictures is left out, and told.
    """
    pairs = made_pairs(root / "source", images, threads=devices.cores())
    (root / "selected").mkdir()
    write_table(pairs, PAIR, root / "selected" / PAIRS_FILE)
    for model in models:
        saved(model, root / model)
        for batch in batches:
            if batch > images:
                print(f"{model}, batch {batch:,}: left out, as CLIPTUNE_BENCH_IMAGES is {images:,}")
                continue
            yield model, batch, measure(root, model, batch, device=device, most=most)
        shutil.rmtree(root / model)


def measure(root: Path, model: str, batch: int, *, device: str, most: int) -> dict[str, Any]:
    """Both trainers with a model and a batch."""
    asked = asked_for(precision="bf16", batch_size=batch, lr=1e-5, epochs=2, deterministic=False)
    looked = parts(root, model, asked, device=device, most=most)
    found = {}
    for who in SIDES:
        run, rows = trained(who, root, model, asked, looked=looked[who], device=device)
        found[who] = described(run, {**looked[who], "rows": rows})
    return found


def parts(
    root: Path, model: str, asked: dict[str, Any], *, device: str, most: int
) -> dict[str, Any]:
    """What train_gpu_parts.look finds, in a process of its own."""
    spec, report = root / "parts.json", root / "parts_found.json"
    spec.write_text(json.dumps({
        "selected": str(root / "selected"), "source": str(root / "source"),
        "base": str(root / model), "architecture": model, "asked": asked, "device": device,
        "most": most, "report": str(report),
    }))  # fmt: skip
    subprocess.run([sys.executable, "-m", "benchmarks.train_gpu_parts", str(spec)], check=True)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def trained(
    who: str, root: Path, model: str, asked: dict[str, Any], *, looked: dict[str, Any], device: str
) -> tuple[Run, int]:
    """Train with as many rows at once as were found to fit; with half, where a run lacks memory."""
    folder, cores, rows = root / "run", devices.cores(), looked["rows"]
    where = (folder, root / "selected", root / "source", root / model, model)
    while True:
        now = {**asked, "micro_batch": None if rows == asked["batch_size"] else rows}
        try:
            if who == "ours":
                run, _ = ours(*where, asked=now, seed=0, threads=cores, device=device)
            else:
                workers = workers_for(cores, batch_bytes=rows * looked["row_bytes"], free=shared())
                run, _ = theirs(
                    *where, asked=now, seed=0, threads=cores, workers=workers, device=device
                )
            return run, rows
        except SystemExit as error:
            if not lacked_memory(str(error)) or rows % 2:
                raise
            rows //= 2
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def workers_for(cores: int, *, batch_bytes: int, free: int) -> int:
    """Of OpenCLIP's processes as many as may each hold two batches in shared memory, at least 1."""
    return max(min(cores, free // (2 * batch_bytes)), 1)


def shared() -> int:
    """Bytes of shared memory that processes may take, without swapping."""
    return min(shutil.disk_usage("/dev/shm").free, psutil.virtual_memory().available // 2)  # noqa: S108


def lacked_memory(said: str) -> bool:
    """Whether a trainer ended since the GPU's memory was full."""
    return "out of memory" in said or "no memory left" in said


def described(run: Run, looked: dict[str, Any]) -> dict[str, Any]:
    """A trainer's figures: pairs/s by epoch, TFLOP/s of the later one, and what limits each."""
    rates = figures(run)
    return {
        **looked,
        "first": rates["first"],
        "later": rates["later"],
        "tflops": rates["later"] * looked["flops"] / 1e12,
        "gpu_bytes": run.gpu_bytes,
        "bottleneck": {
            epoch: bottleneck(looked["seconds"], alongside=part)
            for epoch, part in zip(("first", "later"), ALONGSIDE, strict=True)
        },
    }


def bottleneck(seconds: dict[str, float], *, alongside: str) -> str:
    """The part that limits: `alongside` if it outlasts all others, which wait for each other."""
    others = {name: took for name, took in seconds.items() if name not in ALONGSIDE}
    if seconds[alongside] > sum(others.values()):
        return "pictures"
    return max(others, key=lambda name: others[name])


def goals(found: Found) -> dict[str, Any]:
    """Ours ÷ OpenCLIP's pairs a second in the later epoch, beside the goal."""
    ratios = {
        f"{model} {batch} later": one["ours"]["later"] / one[THEIRS]["later"]
        for model, batches in found.items()
        for batch, one in batches.items()
    }
    return {
        name: {"figure": round(ratio, 3), "goal": GOAL, "met": ratio >= GOAL}
        for name, ratio in ratios.items()
    }


def table(model: str, batch: int, one: dict[str, Any]) -> list[str]:
    """Lines for people."""
    lines = [
        f"\n{model}, batch {batch:,}",
        f"{'pairs a second':<20}{'rows':>7}{'tokens':>8}{'first':>9}{'later':>9}{'TFLOP/s':>9}"
        f"{'GB':>7}  bottleneck (first, later)",
    ]
    for who, found in one.items():
        limits = found["bottleneck"]
        lines.append(
            f"{who:<20}{found['rows']:>7,}{found['tokens']:>8}{found['first']:>9,.0f}"
            f"{found['later']:>9,.0f}{found['tflops']:>9.1f}{found['gpu_bytes'] / 1e9:>7.1f}  "
            f"{limits['first']}, {limits['later']}"
        )
    first, later = (one["ours"][epoch] / one[THEIRS][epoch] for epoch in ("first", "later"))
    lines.append(f"{'ratio':<35}{first:>9.2f}{later:>9.2f}")
    for who, found in one.items():
        said = ", ".join(f"{name} {took:.3f}" for name, took in found["seconds"].items())
        lines.append(f"seconds of a batch, each part alone, {who}: {said}")
    return lines


if __name__ == "__main__":
    main()
