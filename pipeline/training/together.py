"""What all processes of a training must know alike, so that none waits for another for ever."""

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from pipeline.training.distributed import World


def told(content: Any, world: World, device: torch.device) -> Any:
    """What process 0 says, in all of them; anything that JSON holds, numbers to the bit."""
    if world.size == 1:
        return content
    text = json.dumps(content).encode() if world.rank == 0 else b""
    length = torch.tensor([len(text)], device=device)
    dist.broadcast(length, src=0)
    said = torch.zeros(int(length.item()), dtype=torch.uint8)
    if world.rank == 0:
        said = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    said = said.to(device)
    dist.broadcast(said, src=0)
    return json.loads(said.cpu().numpy().tobytes())


def most(values: Sequence[int], world: World, device: torch.device) -> list[int]:
    """The largest that any process says, one by one."""
    if world.size == 1:
        return list(values)
    found = torch.tensor(list(values), device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return [int(value) for value in found.tolist()]


def meet(world: World) -> None:
    """Wait for all."""
    if world.size > 1:
        dist.barrier()
