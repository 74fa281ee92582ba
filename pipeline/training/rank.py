"""What one process of several does when they fine-tune."""

import shutil
from contextlib import closing
from pathlib import Path

import torch
from tqdm import tqdm

from pipeline.clip import device as devices
from pipeline.clip import launch
from pipeline.params import FinetuneParams, ModelParams
from pipeline.training import job as jobs
from pipeline.training import spread, together
from pipeline.training.curves import Curves
from pipeline.training.finetune import Recalls
from pipeline.training.result import Result


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
    crops: Path,
    checkpoints: Path,
    failed: Path,
) -> None:
    """Take part in the training that `job.finetune` of the same arguments asks for.

    Process 0 leaves the result and its curves below `checkpoints`, where the stage finds them. One
    that is there already is not trained again, as after a restart by torchrun.

    Raises what `job.prepare` and `job.train` do, and TrainingError where processes do not fit
    together. SystemExit, with a checkpoint, when one of them was asked to end.
    """
    with spread.joined() as world:
        first = world.rank == 0
        # Each draws its own, the same in each run.
        torch.manual_seed(torch.initial_seed() + world.rank)
        device = devices.prepare(cpu_threads=cpu_threads, deterministic=params.deterministic)
        tell = _silent if launch.is_watched() else tqdm.write
        job = jobs.prepare(
            selected, params, base=base, seed=seed, cpu_threads=cpu_threads, tell=tell
        )
        spread.agree(job.record, job.settled, world, device)
        spread.refuse_batch_norm(job.clip.model, job.settled, seed=seed)
        result = Result(checkpoints, job.record)
        if together.told(first and result.is_there(), world, device):
            tqdm.write("trained already: run `dvc repro`, which takes the result up")
            return
        if first:
            shutil.rmtree(failed, ignore_errors=True)
        with closing(Curves(result.curves)) as curves:
            fitted, kept = jobs.train(
                job, source, packed=packed, seed=seed, cpu_threads=cpu_threads, device=device,
                cache=cache, recalls=recalls, log=curves.log if first else _unseen, crops=crops,
                checkpoints=checkpoints, failed=failed, world=world,
            )  # fmt: skip
        if first:
            result.keep(job.clip, fitted)
            kept.clear()
            if not launch.is_watched():
                tqdm.write("trained: run `dvc repro`, which takes the result up")


def _silent(line: str) -> None: ...


def _unseen(values: object, step: int) -> None: ...
