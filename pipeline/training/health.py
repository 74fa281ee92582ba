"""What ends a training before a bad step: no number, a leap of the loss, no memory."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from pipeline.artifacts import write_text
from pipeline.errors import TrainingError

RECENT = 50
"""Steps whose median loss a new one is compared with."""

SETTLED = 10
"""Steps before a leap can be told from noise; the median loss of these is that of the start."""

SHOWN = 8
BATCH_FILE = "batch.csv"


def trouble(
    loss: float, norm: float, *, recent: Sequence[float], first: float | None, spike: float | None
) -> str | None:
    """What is wrong with a step that has not been taken, in words; None for a sound one.

    A leap is a loss above `spike` times the median of the `recent` ones and above the one of the
    start: small losses of a training that is nearly done may double without harm.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return f"loss {loss:g}, gradient norm {norm:g}"
    if spike is None or first is None:
        return None
    usual = statistics.median(recent)
    if loss > spike * usual and loss > first:
        return (
            f"the loss leapt to {loss:.3g}, from {usual:.3g} in the steps before and "
            f"{first:.3g} at the start (finetune.spike {spike:g})"
        )
    return None


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device has no more memory to give."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and ("can't allocate memory" in said or "out of memory" in said)
    )


def stopped(
    what: str, remedy: str, *, step: int, rows: pd.DataFrame, folder: Path | None
) -> TrainingError:
    """The error of a step that was not taken; its batch goes to `folder`, row by row."""
    numbers = rows["source_row"].tolist()
    shown = ", ".join(map(str, numbers[:SHOWN])) + (", …" if len(numbers) > SHOWN else "")
    where = f"source rows {shown}"
    if folder is not None:
        columns = [name for name in ("source_row", "image", "caption") if name in rows]
        write_text(folder / BATCH_FILE, rows[columns].to_csv(index=False))
        where += f"; all in {folder / BATCH_FILE}"
    return TrainingError(
        f"step {step}: {what}: stopped before the step; {remedy} (the batch: {where})", left=folder
    )
