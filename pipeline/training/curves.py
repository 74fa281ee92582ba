"""The curves of a training, in a file: one process writes them, the stage's run shows them.

A line of JSON for each point: {"step": …, "values": {…}}. What a training that was stopped had
written past the checkpoint from which it goes on is left out then.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from pipeline.artifacts import write_text

Scores = Mapping[str, float]
STEP = "loss"
"""What each step has a value of, and nothing else."""


class Curves:
    """Writes them; a point is in the file when `log` returns, once a step was taken."""

    def __init__(self, file: Path) -> None:
        """Nothing is written yet."""
        self._file = file
        self._waiting: list[str] = []
        self._open: TextIO | None = None

    def log(self, values: Scores, step: int) -> None:
        """Add a point, as the loop's `log` takes it."""
        line = json.dumps({"step": step, "values": dict(values)})
        if self._open is None and STEP not in values:
            # Which epochs are known again; only a step tells where the training goes on.
            self._waiting.append(line)
            return
        if self._open is None:
            before = [json.dumps(p) for p in points(self._file) if _is_before(p, step)]
            write_text(self._file, "".join(f"{kept}\n" for kept in [*before, *self._waiting]))
            self._open = self._file.open("a", encoding="utf-8", buffering=1)
        self._open.write(f"{line}\n")

    def close(self) -> None:
        """No point follows."""
        if self._open is not None:
            self._open.close()


class Follower:
    """Reads them while they are written, and hands each value on once."""

    def __init__(self, file: Path, log: Callable[[Scores, int], None]) -> None:
        """`log` gets the points in the order of their steps."""
        self._file, self._log = file, log
        self._inode, self._offset = 0, 0
        self._last: dict[str, int] = {}

    def follow(self) -> None:
        """Hand on what is new."""
        try:
            with self._file.open("rb") as file:
                self._read(file)
        except FileNotFoundError:
            return

    def _read(self, file: Any) -> None:
        inode = Path(file.name).stat().st_ino
        if inode != self._inode:
            self._inode, self._offset = inode, 0
        file.seek(self._offset)
        for line in file:
            if not line.endswith(b"\n"):  # half written
                return
            self._offset += len(line)
            self._hand_on(**json.loads(line))

    def _hand_on(self, *, step: int, values: Scores) -> None:
        new = {name: v for name, v in values.items() if step > self._last.get(name, -1)}
        if new:
            self._last |= dict.fromkeys(new, step)
            self._log(new, step)


def points(file: Path) -> list[dict[str, Any]]:
    """Those that are whole, in their order."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _is_before(point: Mapping[str, Any], step: int) -> bool:
    return STEP in point["values"] and point["step"] < step
