"""The gradient cache: the gradient of a large batch in the memory of a small one.

Gao et al. 2021, arXiv:2101.06983; also Pham et al. 2021 (BASIC), arXiv:2111.10050. A contrastive
loss is no mean over micro-batches: each row needs all others as negatives. So all rows are embedded
without a graph, the loss gives a gradient for each embedding, and each micro-batch is then embedded
again, with a graph, to carry its embeddings' gradient on to the weights.

Shapes: B rows of the large batch, D width of an embedding.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from pipeline.errors import TrainingError

X = TypeVar("X")
Y = TypeVar("Y")


def backward(
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    embed_images: Callable[[X], Tensor],
    images: Sequence[X],
    embed_texts: Callable[[Y], Tensor],
    texts: Sequence[Y],
    model: nn.Module,
    device: torch.device,
) -> Tensor:
    """Add to every weight the gradient that the one big batch would give; return its loss.

    Each item of `images` and `texts` is what the function beside it takes for one micro-batch: row
    numbers, say, of pictures that it then loads, since only one at a time need be in memory. Both
    sides may be cut differently. `loss` takes all embeddings B×D and reads scale and bias itself;
    it may gather those of other processes.

    What a function draws from torch's generators (dropout, patch dropout, augmentation) it draws
    again, the same, in the second pass; it must draw from no other. Afterwards the generators
    stand where one pass leaves them. A side whose embeddings need no gradient is embedded once.

    Raises TrainingError for batch norm in training mode and for a side without micro-batches.
    """
    _refuse_batch_norm(model)
    # Autocast keeps the weights it has cast; until December 2025 one that was cast without a
    # graph stayed cut off from its weight (pytorch/pytorch#158232).
    torch.clear_autocast_cache()
    image_BD, image_side = _first_pass(embed_images, images, device)
    text_BD, text_side = _first_pass(embed_texts, texts, device)
    torch.clear_autocast_cache()
    after = _generators(device)
    value = loss(image_BD, text_BD)
    value.backward()  # type: ignore[no-untyped-call]
    value = value.detach()
    image_grad, text_grad = image_BD.grad, text_BD.grad
    del image_BD, text_BD  # their gradients take as much, and only those are needed from here on
    try:
        _second_pass(embed_images, images, image_side, image_grad, device)
        _second_pass(embed_texts, texts, text_side, text_grad, device)
    finally:
        _set_generators(after, device)
    return value


class _Generators(NamedTuple):
    """The states of torch's random generators."""

    cpu: Tensor
    gpu: Tensor | None


class _Side(NamedTuple):
    """What the second pass over a side must know: for each micro-batch, rows and generators."""

    rows: list[int]
    generators: list[_Generators]


def _refuse_batch_norm(model: nn.Module) -> None:
    """Its statistics are those of a micro-batch, so the gradient can't be the big batch's.

    To update the running ones once a step would only hide that.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise TrainingError(
                f"{name} is batch norm in training mode: it sees micro-batches, so the gradient "
                "can't be that of the whole batch; set finetune.freeze_batch_norm to true, or "
                "train without micro-batches"
            )


def _first_pass(
    embed: Callable[[X], Tensor], batches: Sequence[X], device: torch.device
) -> tuple[Tensor, _Side]:
    """All embeddings B×D, as a leaf that asks for a gradient where one can go further."""
    if not len(batches):
        raise TrainingError("no micro-batches: each process needs at least one image and one text")
    # What stays of a micro-batch lies where the next one's memory is not: each few bytes left in
    # what a batch gives back would keep the next from using it whole, and the process would grow.
    generators = [_generators(device) for _ in batches]
    whole_BD, trains = torch.empty(0), False
    rows: list[int] = []
    for number, batch in enumerate(batches):
        _keep(generators[number], _generators(device))
        # Only a graph tells whether embeddings need a gradient: the first is built, and dropped.
        with torch.set_grad_enabled(number == 0):
            part = embed(batch)
        start = sum(rows)
        if start + len(part) > len(whole_BD):
            room = part.new_empty(start + len(part) * (len(batches) - number), *part.shape[1:])
            if start:
                room[:start] = whole_BD[:start]
            whole_BD = room
        whole_BD[start : start + len(part)] = part.detach()
        trains = trains or part.requires_grad
        rows.append(len(part))
        del part
    return whole_BD[: sum(rows)].requires_grad_(trains), _Side(rows, generators)


def _second_pass(
    embed: Callable[[X], Tensor],
    batches: Sequence[X],
    side: _Side,
    grad_BD: Tensor | None,
    device: torch.device,
) -> None:
    if grad_BD is None:
        return
    parts = torch.split(grad_BD, side.rows)
    for number, (part, generators) in enumerate(zip(parts, side.generators, strict=True)):
        _set_generators(generators, device)
        embed(batches[number]).backward(part)  # type: ignore[no-untyped-call]


def _generators(device: torch.device) -> _Generators:
    gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return _Generators(torch.get_rng_state(), gpu)


def _keep(place: _Generators, states: _Generators) -> None:
    place.cpu.copy_(states.cpu)
    if place.gpu is not None and states.gpu is not None:
        place.gpu.copy_(states.gpu)


def _set_generators(states: _Generators, device: torch.device) -> None:
    torch.set_rng_state(states.cpu)
    if states.gpu is not None:
        torch.cuda.set_rng_state(states.gpu, device)
