"""One process of several: all see every row's embedding, and end with the one big batch's gradient.

The mean over processes of what `share` returns is the loss of the big batch, and the mean of their
gradients is its gradient. OpenCLIP's gather without gradient, or its local loss alone, give another
(mlfoundations/open_clip#616, #894). Batch norm in training mode would still see its own rows only.

Shapes: B rows of this process, N rows of all processes, D width of an embedding.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pipeline.clip.losses import LOSSES, Codes, Loss, LossName, SameLabel, logits, masks

BUCKET = 8 * 2**20
"""Gradients in one all-reduce, at most, unless a single weight has more."""


def _nobody() -> int:
    return 0


@dataclass(frozen=True)
class World:
    """Which process this is, of how many; with several, torch.distributed is initialised."""

    rank: int
    size: int
    asked: Callable[[], int] = _nobody
    """The number of the signal that asked this process to end, or 0."""


ALONE = World(rank=0, size=1)


def gather(features_BD: Tensor, world: World) -> Tensor:
    """All processes' rows N×D in the order of rank, with gradient; B may differ between them."""
    if world.size == 1:
        return features_BD
    gathered: Tensor = _Gather.apply(features_BD, world)
    return gathered


class _Gather(torch.autograd.Function):
    """Rows of all; backward, each process gets the sum of what all want of its rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, world: World) -> Tensor:
        mine = torch.tensor([len(own)], device=own.device)
        lengths = [torch.empty_like(mine) for _ in range(world.size)]
        dist.all_gather(lengths, mine)
        counts = [int(length) for length in lengths]
        # Backends want rows of equal number: shorter parts travel filled up.
        filled = own.new_zeros(max(counts), *own.shape[1:])
        filled[: len(own)] = own
        parts = [torch.empty_like(filled) for _ in counts]
        dist.all_gather(parts, filled)
        ctx.first, ctx.count = sum(counts[: world.rank]), len(own)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        wide = torch.promote_types(grad.dtype, torch.float32)
        total = grad.to(wide, copy=True, memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.count].to(grad.dtype), None


def share(
    name: LossName,
    image_BD: Tensor,
    text_BD: Tensor,
    codes: Codes,
    *,
    scale: Tensor,
    bias: Tensor | None = None,
    same_label: SameLabel,
    world: World,
    block: int,
) -> Tensor:
    """This process's part of the loss: its own rows against all, `block` rows at a time.

    Logits and masks exist for one block only and are computed again for its gradient, so memory
    grows with N and not with N². Either all processes have labels in `codes`, or none.
    InfoNCE needs no bias: added to every logit it would change nothing.
    """
    loss = LOSSES[name]
    images, texts = _Rows(image_BD, codes), _Rows(text_BD, codes)
    every_code = _each(partial(gather, world=world), codes)
    every_image = _Rows(gather(image_BD, world), every_code)
    every_text = _Rows(gather(text_BD, world), every_code)
    cost = partial(_cost, loss, scale=scale, bias=bias, same_label=same_label)
    total = _summed(cost, images, every_text, block=block)
    if loss.both_ways:
        total = (total + _summed(cost, texts, every_image, block=block)) / 2
    return total * (world.size / len(every_image.embeddings))


class _Rows(NamedTuple):
    """Embeddings of images or of texts, and what they say."""

    embeddings: Tensor
    codes: Codes


def _each(change: Callable[[Tensor], Tensor], codes: Codes) -> Codes:
    label = None if codes.label is None else change(codes.label)
    return Codes(change(codes.image), change(codes.caption), label)


def _cost(
    loss: Loss,
    queries: _Rows,
    keys: _Rows,
    *,
    scale: Tensor,
    bias: Tensor | None,
    same_label: SameLabel,
) -> Tensor:
    logits_QN = logits(queries.embeddings, keys.embeddings, scale, bias)
    return loss.rows(logits_QN, masks(queries.codes, keys.codes, same_label=same_label)).sum()


def _summed(
    cost: Callable[[_Rows, _Rows], Tensor], queries: _Rows, keys: _Rows, *, block: int
) -> Tensor:
    """The cost of all B rows; no more than `block` of them have a graph at a time."""
    if len(queries.embeddings) <= block:
        return cost(queries, keys)
    parts = []
    for start in range(0, len(queries.embeddings), block):
        some = slice(start, start + block)
        rows = _Rows(queries.embeddings[some], _each(itemgetter(some), queries.codes))
        parts.append(checkpoint(cost, rows, keys, use_reentrant=False, preserve_rng_state=False))
    return torch.stack(parts).sum()


def mean(value: Tensor, world: World) -> Tensor:
    """The mean over processes of a value without gradient, such as of their shares of the loss."""
    value = value.detach()
    if world.size == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world.size


def average_gradients(parameters: Iterable[Tensor], world: World) -> None:
    """Give every parameter the mean of its gradients over all processes, which list the same ones.

    A gradient missing here counts as zeros; one missing everywhere stays missing, so that weight
    decay and momentum leave the parameter alone, as they would in one process.
    """
    if world.size == 1:
        return
    for bucket in _buckets(parameters):
        _average(bucket, world)


def _buckets(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Parameters that train, in their order, once each; a bucket has one dtype and device."""
    bucket: list[Tensor] = []
    for weight in {id(w): w for w in parameters if w.requires_grad}.values():
        alike = not bucket or (weight.dtype, weight.device) == (bucket[0].dtype, bucket[0].device)
        if bucket and (not alike or sum(w.numel() for w in bucket) + weight.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket


@torch.no_grad()
def _average(bucket: list[Tensor], world: World) -> None:
    wide, device = torch.promote_types(bucket[0].dtype, torch.float32), bucket[0].device
    sizes = [weight.numel() for weight in bucket]
    flat = torch.zeros(sum(sizes) + len(bucket), dtype=wide, device=device)
    *grads, owners = torch.split(flat, [*sizes, len(bucket)])
    for number, (weight, grad) in enumerate(zip(bucket, grads, strict=True)):
        if weight.grad is not None:
            grad.copy_(weight.grad.reshape(-1))
            owners[number] = 1
    dist.all_reduce(flat)
    for weight, grad, count in zip(bucket, grads, owners.tolist(), strict=True):
        if count and weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        if weight.grad is not None:
            weight.grad.copy_((grad / world.size).view(weight.shape))
