"""torch.compile for the towers: kernels made for this model, where a compiler is there.

A transformer is compiled a block at a time: all blocks are alike, so one is made and serves all,
in seconds rather than minutes. A tower without such blocks is compiled whole. Shapes are static:
kernels for any shape would be made by those that a process happened to meet first, and a training
that goes on after a stop would meet others than one that was not stopped, and round otherwise.

Validation is computed by the plain model, as it will be used.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pipeline.clip.layers import stack
from pipeline.errors import ConfigError

KINDS = 64
"""Kernels of a block at most: for each length of texts, with a gradient and without."""


@contextmanager
def compiled(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """The model with both towers compiled, if wanted; its weights keep their names."""
    if not wanted:
        yield
        return
    import torch._dynamo  # noqa: PLC0415 - seconds

    parts = [part for tower in _towers(model) for part in stack(tower) or [tower]]
    for part in parts:
        part.compile(dynamic=False)
    try:
        with torch._dynamo.config.patch(recompile_limit=KINDS):
            yield
    finally:
        for part in parts:
            part._compiled_call_impl = None


@contextmanager
def plain(*, wanted: bool) -> Iterator[None]:
    """What was compiled, if it was `wanted`, computes here as if it were not."""
    if not wanted:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def need(device: torch.device) -> None:
    """Compile something small; ConfigError where that can't be done on `device`."""
    from torch._inductor.utils import fresh_cache  # noqa: PLC0415 - seconds

    try:
        # What an earlier machine compiled says nothing of this one; what torch finds outdated in
        # itself as it loads its compiler is no reason not to compile.
        with fresh_cache(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.compile(_small, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # of the compiler, of Triton, of a missing header: each its own
        said = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        what = "a C++ compiler (g++) and Python's headers"
        if device.type == "cuda":
            what = "Triton, a C compiler (gcc) and Python's headers"
        raise ConfigError(
            f"finetune.compile is true, and torch can't compile here ({said}): install {what}, or "
            "set it to false"
        ) from error


def _small(values: torch.Tensor) -> torch.Tensor:
    return values.sin() + 1


def _towers(model: nn.Module) -> list[Any]:
    """What holds the blocks of images, and those of texts; the embeddings before are left out."""
    inner = getattr(model, "text", None)
    text = inner if isinstance(inner, nn.Module) else model
    return [model.visual, getattr(text, "transformer", text)]
