"""A training that several processes finished, kept until the stage takes it up.

Its key names no machine and no number of processes: those change last digits, and whoever trained
on eight GPUs may run the stage on a laptop.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.clip.model import Clip
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.finetune import Fit


class Result:
    """What is left of a finished training.

    Attributes:
        kept: the file's folder, to be cleared when the model is on disk elsewhere.
        curves: the file of its curves, there before it is finished.
    """

    def __init__(self, root: Path, record: Mapping[str, Any]) -> None:
        """That of the training that `record` describes; nothing is read or written."""
        self.kept = Checkpoints(root, {**record, "finished": True})
        self.curves = self.kept.folder / "curves.jsonl"

    def keep(self, clip: Clip, fitted: Fit) -> None:
        """Write it; on disk when this returns."""
        state = {"best": fitted.best, "history": fitted.history}
        self.kept.save(len(fitted.history), clip.model.state_dict(), state)

    def is_there(self) -> bool:
        """Whether the training is finished."""
        return self.kept.newest() is not None

    def take(self, clip: Clip) -> Fit | None:
        """Put the weights into `clip.model`; None where the training is not finished."""
        found = self.kept.newest()
        if found is None:
            return None
        clip.model.load_state_dict(found.tensors)
        return Fit(found.state["best"], found.state["history"])
