"""`cliptune doctor`: what `dvc repro` will do, told before anything is run or written."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import paths
from pipeline.doctor import aside

if TYPE_CHECKING:
    from pipeline.doctor.examination import Examination


def examine(params: Path = paths.PARAMS) -> "Examination":
    """Look at the work tree in the current folder; runs no stage and writes nothing.

    The process that needs torch starts first, and the modules that read the source are imported
    while it gets ready.
    """
    with aside.beginning() as pool:
        from pipeline.doctor.examination import examination  # noqa: PLC0415 - takes a second

        return examination(pool, params)
