"""All that a training is at one moment, as a checkpoint holds it, and back again bit for bit.

Weights, the optimiser with its hyperparameters, averaged weights, torch's random generators, and
whatever the caller keeps beside them. Python's and NumPy's generators are not among it: nothing
here draws from the global ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import TrainingError
from pipeline.training.checkpoint import Checkpoint

Rng = Mapping[str, Tensor]
"""The state of a process's generators: `cpu`, and `cuda` for its device where it has one."""


def rng_state() -> dict[str, Tensor]:
    """The state of this process's torch generators."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def pack(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    state: Mapping[str, Any],
    ema: Mapping[str, Tensor] | None,
    rngs: Sequence[Rng] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `Checkpoints.save` takes: tensors by name, and the rest as JSON can hold it.

    `state` is the caller's: epoch, position, history. `ema` are averaged weights by name. `rngs`
    are the generators of all processes, in order of rank; None: this is the only one.

    The tensors are the live ones, not copies: save them before the next step.
    """
    optimized = optimizer.state_dict()
    groups = [_parted(group) for group in optimized["param_groups"]]
    states = {str(index): _parted(one) for index, one in optimized["state"].items()}
    generators = [rng_state()] if rngs is None else rngs
    tensors = {
        **_under("model", model.state_dict()),
        **_under("ema", ema or {}),
        **_under("rng", _joined({str(n): rng for n, rng in enumerate(generators)})),
        **_under("group", _joined({str(n): group[0] for n, group in enumerate(groups)})),
        **_under("optimizer", _joined({index: one[0] for index, one in states.items()})),
    }
    return tensors, {
        "caller": dict(state),
        "groups": [rest for _, rest in groups],
        "optimizer": {index: rest for index, (_, rest) in states.items()},
        "processes": len(generators),
    }


def unpack(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    ema: Mapping[str, Tensor] | None,
    process: int = 0,
) -> dict[str, Any]:
    """Put what `pack` took back into model, optimiser, `ema` and generators; return `state`.

    Model and optimiser are built as they were, moved to device and memory format before. A process
    that there was not then keeps its generators.

    Raises TrainingError where the checkpoint is of something else; nothing is changed then.
    """
    weights, averaged = _below("model", checkpoint.tensors), _below("ema", checkpoint.tensors)
    live = [weight for group in optimizer.param_groups for weight in group["params"]]
    _check("weights", weights, model.state_dict())
    _check("averaged weights", averaged, ema or {})
    _check_groups(checkpoint, optimizer, live)
    model.load_state_dict(weights)
    with torch.no_grad():
        for name, average in (ema or {}).items():
            average.copy_(averaged[name])
    optimizer.load_state_dict(
        {
            "state": _states(checkpoint, live),
            "param_groups": [
                _group(checkpoint, number, group)
                for number, group in enumerate(optimizer.param_groups)
            ],
        }
    )
    rng = _below(f"rng.{process}", checkpoint.tensors)
    if rng:
        set_rng(rng)
    found: dict[str, Any] = checkpoint.state["caller"]
    return found


def _states(checkpoint: Checkpoint, live: list[Tensor]) -> dict[int, dict[str, Any]]:
    """The optimiser's state by number of the weight that it belongs to."""
    found: dict[int, dict[str, Any]] = {}
    for index, rest in checkpoint.state["optimizer"].items():
        weight = live[int(index)]
        tensors = _below(f"optimizer.{index}", checkpoint.tensors)
        copies = {
            # The count of steps is no matrix: it stays on the host, where the optimiser wants it.
            name: value.clone() if name == "step" else _laid_out_as(weight, value)
            for name, value in tensors.items()
        }
        found[int(index)] = {**rest, **copies}
    return found


def _group(checkpoint: Checkpoint, number: int, live: Mapping[str, Any]) -> dict[str, Any]:
    """A group's hyperparameters, of the types that they have in a live one."""
    rest = checkpoint.state["groups"][number]
    tensors = _below(f"group.{number}", checkpoint.tensors)
    # JSON has lists alone.
    typed = {
        name: tuple(value) if isinstance(live.get(name), tuple) else value
        for name, value in rest.items()
    }
    return {**typed, **{name: value.clone() for name, value in tensors.items()}}


def _laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """A copy in the weight's memory format: another adds in another order, with other last digits.

    A file holds every tensor in the order of its dimensions.
    """
    return torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)


def set_rng(rng: Rng) -> None:
    """Set this process's torch generators."""
    torch.set_rng_state(rng["cpu"])
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng["cuda"])


def _check(what: str, saved: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    """TrainingError where names, shapes or dtypes differ."""
    for name in sorted({*saved, *live}):
        then, now = _described(saved.get(name)), _described(live.get(name))
        if then != now:
            raise _other(f"{what}: {name} was {then} and is {now}")


def _check_groups(
    checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, live: list[Tensor]
) -> None:
    sizes = [len(group["params"]) for group in checkpoint.state["groups"]]
    now = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != now:
        raise _other(f"optimiser: its groups had {sizes} weights and have {now}")
    for name, value in _below("optimizer", checkpoint.tensors).items():
        index = int(name.partition(".")[0])
        if not name.endswith(".step") and value.shape != live[index].shape:
            raise _other(
                f"optimiser: {name} was {_described(value)}, its weight is "
                f"{_described(live[index])}"
            )


def _other(what: str) -> TrainingError:
    return TrainingError(f"the checkpoint is of another training ({what}): remove it to begin anew")


def _described(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"


def _parted(values: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, and the rest."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in values.items() if name not in tensors}


def _joined(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{key}.{name}": t for key, part in parts.items() for name, t in part.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
