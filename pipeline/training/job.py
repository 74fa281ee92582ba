"""The finetune stage's one call: clean pairs and the base model → a fine-tuned model."""

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from tqdm import tqdm

from pipeline.artifacts import sha256_of, sha256_text, write_text
from pipeline.clip import device as devices
from pipeline.clip.crops_cache import open_cache
from pipeline.clip.model import Clip, load, locate
from pipeline.clip.pixels import Crops
from pipeline.data.pairs import PAIRS_FILE, read_pairs
from pipeline.data.places import places_of
from pipeline.params import FinetuneParams, ModelParams
from pipeline.training import auto, looking, together
from pipeline.training.auto import Settled
from pipeline.training.checkpoint import Checkpoints, forget
from pipeline.training.distributed import ALONE, World
from pipeline.training.finetune import Fit, Log, Recalls, fit
from pipeline.training.known import known
from pipeline.training.result import Result
from pipeline.training.spread import everywhere

HISTORY = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_image_to_text_r1",
    "val_text_to_image_r1",
    "lr",
    "logit_scale",
)


class Finetuned(NamedTuple):
    """The model, what the stage found, where the model comes from, and what is to be cleared.

    The checkpoints go when the model is on disk: until then they are all there is of it.
    """

    clip: Clip
    found: dict[str, Any]
    record: dict[str, Any]
    checkpoints: Checkpoints


class Job(NamedTuple):
    """What there is to train, and with what.

    Attributes:
        seen: the pairs of `train` and `val`.
        record: all that decides what becomes of it but for last digits.
    """

    clip: Clip
    train: pd.DataFrame
    val: pd.DataFrame
    seen: pd.DataFrame
    settled: Settled
    chosen: dict[str, float]
    record: dict[str, Any]


def finetune(
    selected: Path,
    source: Path,
    params: FinetuneParams,
    *,
    packed: Path,
    base: ModelParams,
    seed: int,
    cpu_threads: int,
    cache: Path,
    recalls: Recalls,
    log: Log,
    history_file: Path,
    crops: Path,
    checkpoints: Path,
    failed: Path,
    each: str,
) -> Finetuned:
    """Fine-tune the base model on the training split; write a row an epoch to `history_file`.

    A training that was stopped goes on from what it left in `checkpoints`, if nothing of data,
    model, params, code and machine changed that could change the result. The batch of a step that
    could not be taken is in the folder `failed`. What is decoded is kept below `crops`, and what is
    there is not decoded again. Of towers that don't train, `cache` keeps what they give (see
    `known`). Several processes each run the module `each` (see `spread`); where they have trained
    already, on several machines, what they left in `checkpoints` is taken up.

    What is `auto` in `params` is chosen first, and told. Raises ModelError and TrainingError, as
    `load`, `preflight.check`, `known`, `fit` and `spread.everywhere` do.
    """
    device = devices.prepare(cpu_threads=cpu_threads, deterministic=params.deterministic)
    job = prepare(selected, params, base=base, seed=seed, cpu_threads=cpu_threads, tell=tqdm.write)
    forget(checkpoints)
    shutil.rmtree(failed, ignore_errors=True)
    result = Result(checkpoints, job.record)
    everywhere(each, result, job.clip, job.settled, seed=seed, log=log)
    fitted, kept = result.take(job.clip), result.kept
    if fitted is None:
        fitted, kept = train(
            job, source, packed=packed, seed=seed, cpu_threads=cpu_threads, device=device,
            cache=cache, recalls=recalls, log=log, crops=crops, checkpoints=checkpoints,
            failed=failed,
        )  # fmt: skip
    write_text(history_file, pd.DataFrame(fitted.history)[list(HISTORY)].to_csv(index=False))
    best = fitted.history[fitted.best]
    found = {
        "epochs": len(fitted.history) - 1,
        "chosen": job.chosen,
        "best_epoch": fitted.best,
        "train_images": int(job.train["image_id"].nunique()),
        "val_images": int(job.val["image_id"].nunique()),
        **{name: value for name, value in best.items() if name.startswith("val_")},
    }
    return Finetuned(job.clip, found, job.record, kept)


def prepare(
    selected: Path,
    params: FinetuneParams,
    *,
    base: ModelParams,
    seed: int,
    cpu_threads: int,
    tell: Callable[[str], object],
) -> Job:
    """Load pairs and model and settle what is `auto`; `tell` gets choices and doubts.

    Raises ModelError and TrainingError, as `load` and `preflight.check` do.
    """
    clip = load(locate(base.pretrained), architecture=base.name)
    pairs = read_pairs(selected)
    train, val = (pairs[pairs["split"] == name].reset_index(drop=True) for name in ("train", "val"))
    settled = looking.ready(clip, train, params, tell=tell)
    chosen = auto.chosen(params, settled)
    record = {
        "base": {**base.model_dump(), "sha256": clip.fingerprint},
        "data": {"pairs_sha256": sha256_of(selected / PAIRS_FILE)},
        "code": {"sha256": _code()},
        "params": {
            "seed": seed,
            "cpu_threads": cpu_threads,
            "finetune": params.model_dump(),
            "chosen": chosen,
        },
    }
    return Job(clip, train, val, pairs[pairs["split"] != "test"], settled, chosen, record)


def train(
    job: Job,
    source: Path,
    *,
    packed: Path,
    seed: int,
    cpu_threads: int,
    device: torch.device,
    cache: Path,
    recalls: Recalls,
    log: Log,
    crops: Path,
    checkpoints: Path,
    failed: Path,
    world: World = ALONE,
) -> tuple[Fit, Checkpoints]:
    """Train, alone or as one process of several; the model is left in `job.clip`.

    The machine is part of the checkpoints' key, as it rounds last digits; of several processes that
    of process 0, and never how many they are.
    """
    machine = together.told(_machine(device), world, device)
    kept = Checkpoints(checkpoints, {**job.record, "machine": machine})
    places = places_of(job.seen, source=source, packed=packed)
    given = known(
        job.clip, job.seen, places, job.settled, seed=seed, device=device,
        cpu_threads=cpu_threads, cache=cache, world=world,
    )  # fmt: skip
    kept_crops = open_cache(crops, job.clip, places) if given.images is None else None
    fitted = fit(
        job.clip,
        job.train,
        job.val,
        crops=Crops(job.clip, places, cache=kept_crops),
        params=job.settled,
        seed=seed,
        recalls=recalls,
        log=log,
        device=device,
        world=world,
        checkpoints=kept,
        failed=failed,
        known=given,
    )
    return fitted, kept


def _machine(device: torch.device) -> dict[str, str]:
    """What else rounds the last digits in a way of its own."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    kernels = torch.backends.cpu.get_cpu_capability()
    return {"device": device.type, "name": name, "kernels": kernels, "torch": torch.__version__}


def _code() -> str:
    """One hash of the code that training runs: this package, and what it stands on."""
    package = Path(__file__).parents[1]
    files = sorted(f for d in ("training", "clip", "data") for f in (package / d).glob("*.py"))
    lines = [f"{file.relative_to(package).as_posix()} {sha256_of(file)}" for file in files]
    return sha256_text("\n".join(lines))
