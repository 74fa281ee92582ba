"""What needs torch, in a process of its own.

Importing torch and OpenCLIP takes seconds; meanwhile the source is looked at. Only values cross
over, so the process that was asked never imports them.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING

from pipeline.doctor.findings import Finding
from pipeline.doctor.seen import Base, Device, Made

if TYPE_CHECKING:  # the process starts the sooner
    from pipeline.params import FinetuneParams, ModelParams


@contextmanager
def beginning() -> Iterator[Executor]:
    """The other process, which gets ready at once."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_ready)
        yield pool


def ask_base(
    pool: Executor, model: "ModelParams", made: Made, finetune: "FinetuneParams | None"
) -> "Future[Base]":
    """Ask for the base model, as it will be trained."""
    return pool.submit(_base, model, made, finetune)


def ask_device(pool: Executor) -> "Future[Device | Finding]":
    """Ask for the device."""
    return pool.submit(_device)


def ask_tokens(
    pool: Executor, model: "ModelParams", captions: Sequence[str]
) -> "Future[list[int] | None]":
    """Ask for the captions' numbers of tokens; None: the tokenizer is not here yet."""
    return pool.submit(_tokens, model, list(captions))


def _ready() -> None:
    import pipeline.doctor.model  # noqa: F401, PLC0415 - takes seconds: only in that process


def _base(model: "ModelParams", made: Made, finetune: "FinetuneParams | None") -> Base:
    from pipeline.doctor.model import base  # noqa: PLC0415

    return base(model, made=made, finetune=finetune)


def _device() -> Device | Finding:
    from pipeline.doctor.model import device  # noqa: PLC0415

    return device()


def _tokens(model: "ModelParams", captions: Sequence[str]) -> list[int] | None:
    from pipeline.doctor.model import tokens  # noqa: PLC0415

    return tokens(model, captions)
