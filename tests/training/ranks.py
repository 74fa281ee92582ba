"""Several processes that talk through gloo, as torchrun would start them on one machine."""

import datetime
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipeline.training.distributed import World

Found = dict[str, Any]


def run(work: Callable[[World], Found], *, size: int, folder: Path) -> list[Found]:
    """What `work`, a function of a module, returns in each of `size` processes, tensors as lists.

    `folder` is where they meet.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(size, mp_context=spawn) as pool:
        # Each waits for the others, so that none takes two of these.
        ends = [pool.submit(_one, work, World(rank, size), folder) for rank in range(size)]
        return [end.result() for end in ends]


def _one(work: Callable[[World], Found], world: World, folder: Path) -> Found:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous{world.size}",
        rank=world.rank,
        world_size=world.size,
        timeout=datetime.timedelta(minutes=2),
    )
    try:
        return work(world)
    finally:
        dist.destroy_process_group()
