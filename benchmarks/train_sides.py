"""The two trainers that benchmarks/train.py sets side by side, each in a process of its own.

Ours is the finetune stage's one call; OpenCLIP's is `open_clip_train.main` as it is installed. Of
both the epochs are timed from outside: the clock stops where the trainer validates or saves. Each
leaves its weights, and a report of seconds and pairs by epoch.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch

from benchmarks.train_theirs import gpu_bytes, wait
from pipeline import params as params_of
from pipeline.clip import model as clip_model
from pipeline.clip.losses import Codes
from pipeline.clip.model import Clip
from pipeline.evaluation.retrieval import recalls
from pipeline.params import ModelParams, Params
from pipeline.registry import bundle
from pipeline.training import finetune as loop
from pipeline.training import job
from pipeline.training.learner import Data, coded

THEIRS = "OpenCLIP's trainer"
THREADS = 2
WORKERS = 2
"""OpenCLIP's decoding processes, on two cores (benchmarks/train.py says how they were chosen)."""

LOOK_S = 0.2
PRECISIONS = {"fp32": "fp32", "bf16": "amp_bf16"}
"""Ours, and the same in OpenCLIP's words."""


@dataclass(frozen=True)
class Run:
    """What a trainer left.

    Attributes:
        seconds: of each epoch's steps, with all that they wait for.
        pairs: trained on in an epoch.
        wall: seconds from the start of its process to its end.
        bytes: most memory of its processes at any time: pages that several share count once.
        best: the epoch whose weights it kept.
        gpu_bytes: most memory of a GPU in use at any time, 0 without one.
    """

    seconds: list[float]
    pairs: int
    wall: float
    bytes: int
    best: int
    gpu_bytes: int = 0


def ours(
    folder: Path, selected: Path, source: Path, base: Path, architecture: str, *,
    asked: dict[str, Any], seed: int, told: bool = True, threads: int = THREADS,
    device: str = "cpu",
) -> tuple[Run, Clip]:  # fmt: skip
    """Train with the finetune stage's own call; `asked` replaces params of `finetune`.

    Not `told`: which pairs are twins is kept from the loss, which is then CLIP's own.
    """
    spec = {
        "folder": str(folder), "selected": str(selected), "source": str(source),
        "base": os.path.relpath(base, "hub"), "architecture": architecture, "asked": asked,
        "seed": seed, "told": told, "threads": threads,
    }  # fmt: skip
    run = _watched("benchmarks.train_sides", folder, spec, device=device)
    return run, clip_model.load(folder / "model", architecture=architecture)


def theirs(
    folder: Path, selected: Path, source: Path, base: Path, architecture: str, *,
    asked: dict[str, Any], seed: int, threads: int = THREADS, workers: int = WORKERS,
    device: str = "cpu",
) -> tuple[Run, Clip]:  # fmt: skip
    """Train with OpenCLIP's trainer, by the same params and at least as many steps."""
    pairs = pd.read_parquet(selected / "pairs.parquet")
    train = pairs[pairs["split"] == "train"]
    file = folder / "train.csv"
    folder.mkdir(parents=True)
    where = [str((source / name).absolute()) for name in train["file"]]
    rows = pd.DataFrame({"filepath": where, "title": train["caption"]})
    rows.to_csv(file, sep="\t", index=False)
    size = asked["batch_size"]
    steps = asked["epochs"] * (train["image_id"].nunique() // size)
    epochs = -(-steps // (len(train) // size))
    words = arguments(
        asked, train=file, base=base, logs=folder / "logs", epochs=epochs,
        steps=epochs * (len(train) // size), seed=seed, workers=workers, device=device,
    )  # fmt: skip
    spec = {
        "folder": str(folder), "arguments": words, "threads": threads,
        "accumulated": accumulated(asked),
    }  # fmt: skip
    run = _watched("benchmarks.train_theirs", folder, spec, device=device)
    clip = clip_model.load(base, architecture=architecture)
    file = folder / "logs" / "run" / "checkpoints" / f"epoch_{epochs}.pt"
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    clip.model.load_state_dict(state)
    file.unlink()
    return run, clip


def arguments(
    asked: dict[str, Any], *, train: Path, base: Path, logs: Path, epochs: int, steps: int,
    seed: int, workers: int = WORKERS, device: str = "cpu",
) -> list[str]:  # fmt: skip
    """Our params in the words of OpenCLIP's trainer; its own defaults are for pretraining.

    A micro-batch becomes its batch, of which it accumulates as many as make ours.
    """
    times = accumulated(asked)
    beta1, beta2 = asked["betas"]
    scale = asked["augment"]["scale"] if asked["augment"] else 1.0
    values = {
        "model": f"local-dir:{base.absolute()}", "train-data": train, "dataset-type": "csv",
        "logs": logs, "name": "run", "batch-size": asked["batch_size"] // times,
        "accum-freq": times, "epochs": epochs, "device": device,
        "lr": asked["lr"], "wd": asked["weight_decay"], "beta1": beta1, "beta2": beta2,
        "eps": 1e-6, "warmup": math.ceil(asked["warmup"] * steps),
        "grad-clip-norm": asked["grad_clip"],
        "precision": PRECISIONS[asked["precision"]], "workers": workers, "save-frequency": 0,
        "seed": seed,
        "aug-cfg": f"scale=({scale},1.0)",
    }  # fmt: skip
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def accumulated(asked: dict[str, Any]) -> int:
    """How many micro-batches make a batch; it must be a whole number."""
    size, micro = asked["batch_size"], asked["micro_batch"] or asked["batch_size"]
    if size % micro:
        raise SystemExit(f"a batch of {size} is no multiple of micro-batches of {micro}")
    return int(size // micro)


def _watched(module: str, folder: Path, spec: dict[str, Any], *, device: str) -> Run:
    """Run a module in a process of its own and look at its memory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", module, str(folder / "spec.json")]
    began = time.perf_counter()
    with (folder / "said.txt").open("w") as said:
        process = psutil.Popen(
            command, stdout=said, stderr=subprocess.STDOUT,
            env={**os.environ, "CLIPTUNE_DEVICE": device, "CLIPTUNE_PROCESSES": "1"},
        )  # fmt: skip
        most = 0
        while process.poll() is None:
            most = max(most, _bytes(process))
            time.sleep(LOOK_S)
    if process.wait():
        raise SystemExit(f"{module} failed:\n{(folder / 'said.txt').read_text()[-3000:]}")
    report = json.loads((folder / "report.json").read_text())
    return Run(**report, wall=time.perf_counter() - began, bytes=most)


def _bytes(process: psutil.Process) -> int:
    """Of a process and its children, each shared page by its share."""
    found = 0
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                found += one.memory_full_info().pss
    return found


def _our_side(spec: dict[str, Any]) -> dict[str, Any]:
    folder = Path(spec["folder"])
    if not spec["told"]:
        loop.coded = _each_its_own  # type: ignore[attr-defined]
    seconds = _timed_between(loop, "validate")
    defaults = params_of.load(Params).finetune.model_dump()
    asked = params_of.FinetuneParams.model_validate({**defaults, **spec["asked"]})
    tuned = job.finetune(
        Path(spec["selected"]), Path(spec["source"]), asked, packed=folder,
        base=ModelParams(name=spec["architecture"], pretrained=spec["base"]), seed=spec["seed"],
        cpu_threads=spec["threads"], cache=folder / "cache", recalls=recalls, log=lambda *_: None,
        history_file=folder / "history.csv", crops=folder / "crops",
        checkpoints=folder / "checkpoints", failed=folder / "failed",
        each="stages.finetune_rank",
    )  # fmt: skip
    bundle.save(folder / "model", tuned.clip, record=tuned.record)
    size = spec["asked"]["batch_size"]
    pairs = tuned.found["train_images"] // size * size
    return {
        "seconds": seconds, "pairs": pairs, "best": tuned.found["best_epoch"],
        "gpu_bytes": gpu_bytes(),
    }  # fmt: skip


def _each_its_own(pairs: pd.DataFrame) -> Data:
    """`coded` without knowledge of twins."""
    rows = torch.arange(len(pairs))
    return coded(pairs)._replace(codes=Codes(rows, rows, None))


def _timed_between(module: Any, name: str) -> list[float]:
    """A list that gets the seconds between two calls of a function of a module."""
    seconds: list[float] = []
    ends: list[float] = []
    call: Callable[..., Any] = getattr(module, name)

    def timed(*given: Any, **named: Any) -> Any:
        wait()
        if ends:
            seconds.append(time.perf_counter() - ends[-1])
        found = call(*given, **named)
        ends.append(time.perf_counter())
        return found

    setattr(module, name, timed)
    return seconds


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    (Path(given["folder"]) / "report.json").write_text(json.dumps(_our_side(given)))
