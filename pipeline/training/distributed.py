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

    Logits and masks exist for one block only, so memory grows with N and not with N². Either all
    processes have labels in `codes`, or none. InfoNCE needs no bias: added to every logit it would
    change nothing. With more rows than a block, the gradient has no gradient of its own.
    """
    loss = LOSSES[name]
    cost = partial(_cost, loss, same_label=same_label)
    every_code = _each(partial(gather, world=world), codes)
    every_text = gather(text_BD, world)
    every_image = gather(image_BD, world) if loss.both_ways else None
    if len(image_BD) <= block:
        total = cost(_Rows(image_BD, codes), _Rows(every_text, every_code), scale, bias)
        if every_image is not None:
            by_text = cost(_Rows(text_BD, codes), _Rows(every_image, every_code), scale, bias)
            total = (total + by_text) / 2
    else:
        total = _Blocks.apply(
            cost, codes, every_code, block, image_BD, text_BD, every_image, every_text, scale, bias
        )
    return total * (world.size / len(every_text))


class _Rows(NamedTuple):
    """Embeddings of images or of texts, and what they say."""

    embeddings: Tensor
    codes: Codes


def _each(change: Callable[[Tensor], Tensor], codes: Codes) -> Codes:
    label = None if codes.label is None else change(codes.label)
    return Codes(change(codes.image), change(codes.caption), label)


Cost = Callable[[_Rows, _Rows, Tensor, Tensor | None], Tensor]


def _cost(
    loss: Loss,
    queries: _Rows,
    keys: _Rows,
    scale: Tensor,
    bias: Tensor | None,
    *,
    same_label: SameLabel,
) -> Tensor:
    logits_QN = logits(queries.embeddings, keys.embeddings, scale, bias)
    return loss.rows(logits_QN, masks(queries.codes, keys.codes, same_label=same_label)).sum()


class _Blocks(torch.autograd.Function):
    """The cost of all rows, mean of both ways where there are two, and its gradient along with it.

    Each block has its gradient before the next is begun. So nothing is computed twice, and nothing
    small is left behind in the memory that a block gives back: with a graph of all blocks, each
    one's few bytes kept the next from using that memory, and the process grew with N² after all.
    """

    @staticmethod
    def forward(
        ctx: Any, cost: Cost, codes: Codes, every_code: Codes, block: int, *inputs: Any
    ) -> Tensor:
        image, text, every_image, every_text, factor, plus = inputs
        scale, bias = _leaf(factor), None if plus is None else _leaf(plus)
        own = (torch.zeros_like(image), torch.zeros_like(text))
        # In one process "every" is "own" itself: one gradient serves both.
        image_grad = None if every_image is None else _beside(own[0], every_image, image)
        text_grad = _beside(own[1], every_text, text)
        ways = [(image, own[0], _leaf(every_text, text_grad))]
        if every_image is not None:
            ways.append((text, own[1], _leaf(every_image, image_grad)))
        graph = any(ctx.needs_input_grad)
        total = torch.zeros((), dtype=_wide(image), device=image.device)
        for queries, grad, keys in ways:
            for start in range(0, len(queries), block):
                some = slice(start, start + block)
                rows = _Rows(_leaf(queries[some]), _each(itemgetter(some), codes))
                with torch.set_grad_enabled(graph):
                    part = cost(rows, _Rows(keys, every_code), scale, bias) / len(ways)
                if graph:
                    torch.autograd.backward(part)
                    grad[some] += torch.as_tensor(rows.embeddings.grad)
                total += part.detach()
        every = (image_grad, text_grad)
        ctx.found = [
            *own,
            *(None if one is mine else one for one, mine in zip(every, own, strict=True)),
            *(None if one is None else one.grad for one in (scale, bias)),
        ]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found, ctx.found = ctx.found, None
        if found is None:
            raise RuntimeError("the gradient of a loss in blocks is there once")
        # In place: they are as large as all embeddings, and nothing else needs them.
        return None, None, None, None, *(None if one is None else one.mul_(grad) for one in found)


def _leaf(whole: Tensor, grad: Tensor | None = None) -> Tensor:
    """The same numbers at the root of a graph of their own, whose gradient is added to `grad`."""
    leaf = whole.detach().requires_grad_()
    leaf.grad = grad
    return leaf


def _beside(grad: Tensor, every: Tensor, own: Tensor) -> Tensor:
    return grad if every is own else torch.zeros_like(every)


def _wide(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)


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
