"""Training in several processes, on one machine or many, as started by the stage or by torchrun.

By the stage: `CLIPTUNE_PROCESSES` of them, by default one for each GPU. For several machines, start
their module with torchrun on each, in work trees on one file system that all of them share; `dvc
repro` then takes up what they left (docs/scale.md).

Loss and gradients are those of one process with the same batch, up to the order in which floating
point numbers are added. As many processes as before end with the same bits.
"""

import datetime
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress

import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

from pipeline.artifacts import sha256_text
from pipeline.clip import launch
from pipeline.clip.model import Clip
from pipeline.errors import ConfigError, TrainingError
from pipeline.training import methods, optim, together
from pipeline.training.auto import Settled
from pipeline.training.curves import Follower
from pipeline.training.distributed import World
from pipeline.training.finetune import Log
from pipeline.training.result import Result
from pipeline.training.stopping import noted

PATIENCE = datetime.timedelta(minutes=30)
"""For how long a process waits for the others, as while process 0 writes a large checkpoint."""


def everywhere(
    module: str, result: Result, clip: Clip, params: Settled, *, seed: int, log: Log
) -> None:
    """Where several processes are to train, run `module` in each until `result` is there.

    Nothing happens where one is to; nothing is trained where `result` is there already. `log` gets
    the curves, while they are made.
    Raises TrainingError when a process is lost, or else what it told; the next run goes on from the
    last checkpoint.
    """
    follower = Follower(result.curves, log)
    if result.is_there():
        tqdm.write("trained already, by several processes: their result is taken up")
        follower.follow()
        return
    count = min(launch.processes(), params.batch_size)
    if count == 1:
        return
    refuse_batch_norm(clip.model, params, seed=seed)
    lost = launch.run(module, count=count, meanwhile=follower.follow)
    if lost is not None:
        raise lost.error or TrainingError(
            f"{lost.what} (what it said stands above), and the others were stopped. Run `dvc "
            "repro` again: training goes on from the last checkpoint. If that happens again, give "
            "finetune.micro_batch a smaller value, or set CLIPTUNE_PROCESSES lower"
        )


@contextmanager
def joined() -> Iterator[World]:
    """One process of several, as its variables say; signals are noted until all have met.

    All but process 0 are silent. On a GPU each has its own and they talk by NCCL, elsewhere by
    gloo. Raises ConfigError for GPUs that can't be shared out so.
    """
    with ExitStack() as stack:
        stack.enter_context(launch.reported())
        launch.end_with_parent()
        asked = stack.enter_context(noted())
        world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), asked)
        if world.rank > 0:
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(silence))
        dist.init_process_group(
            _backend(), init_method=launch.joined_by(), rank=world.rank, world_size=world.size,
            timeout=PATIENCE,
        )  # fmt: skip
        try:
            yield world
        except RuntimeError as error:
            if not _is_broken(error):
                raise
            sys.stderr.write(f"process {world.rank}: another process was lost ({error})\n")
            # Those who wait for this one must not wait for what can't come.
            os._exit(1)
        with suppress(RuntimeError):
            dist.destroy_process_group()


def agree(record: object, params: Settled, world: World, device: torch.device) -> None:
    """TrainingError, in all processes, where they are to train different things, or too many."""
    if world.size > params.batch_size:
        raise TrainingError(
            f"{world.size} processes are more than finetune.batch_size {params.batch_size}: each "
            "needs a pair of each batch; start fewer, or raise finetune.batch_size"
        )
    own = sha256_text(json.dumps(record, sort_keys=True))
    (differs,) = together.most([int(own != together.told(own, world, device))], world, device)
    if differs:
        raise TrainingError(
            "the processes of this training see different data, params, base or code: the work "
            "trees of several machines must lie on one file system that all of them share"
        )


def refuse_batch_norm(model: nn.Module, params: Settled, *, seed: int) -> None:
    """TrainingError where batch norm would learn: of its process's rows, another of each."""
    with methods.prepared(model, params, seed=seed):
        optim.train_mode(model, freeze_batch_norm=params.freeze_batch_norm)
        learning = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        ]
    model.eval()
    if learning:
        raise TrainingError(
            f"{learning[0]} is batch norm in training mode: each process would see its own rows "
            "only; set finetune.freeze_batch_norm to true, or CLIPTUNE_PROCESSES=1"
        )


def _backend() -> str:
    """NCCL where each process has a GPU, which becomes the one it computes on."""
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    chosen = os.environ.get("CLIPTUNE_DEVICE")
    if chosen:
        if here > 1 and torch.device(chosen).type == "cuda":
            raise ConfigError(
                f"CLIPTUNE_DEVICE is {chosen!r}, which {here} processes can't share: unset it "
                "(CUDA_VISIBLE_DEVICES chooses GPUs), or start one process"
            )
        return "nccl" if torch.device(chosen).type == "cuda" else "gloo"
    if not torch.cuda.is_available():
        return "gloo"
    if here > torch.cuda.device_count():
        raise ConfigError(
            f"{here} processes can't share {torch.cuda.device_count()} GPUs: start one for each, "
            "or set CLIPTUNE_DEVICE=cpu"
        )
    os.environ["CLIPTUNE_DEVICE"] = f"cuda:{local}"
    torch.cuda.set_device(local)
    return "nccl"


def _is_broken(error: RuntimeError) -> bool:
    """Whether it is the connection to another process that failed."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
