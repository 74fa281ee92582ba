"""What proves a run: the hashes of its outputs, and its figures, as recorded and as they are now.

A run's dvc.lock holds a hash of every dependency, param and output, so a tree in which DVC finds
nothing changed is the recorded one: that is proved without running anything. To run the stages
again proves more: that the code makes these outputs of these inputs, on this machine.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import paths
from pipeline.artifacts import read_json
from pipeline.lineage_dvc import Graph, overlap

RECORD = "record"
"""The stage that is left out: it writes nothing but which MLflow run there was."""


class Output(NamedTuple):
    """An output of a stage, and DVC's hash of it; None: there is none."""

    stage: str
    path: str
    recorded: str | None
    now: str | None


class Figure(NamedTuple):
    """A number of metrics/, as it was recorded and as it is now; None: it is not there."""

    name: str
    recorded: float | None
    now: float | None

    def within(self, tolerance: float) -> bool:
        """Whether both are equal, or nearer than `tolerance`: a share by itself up to 1, else
        relative to the recorded number."""
        if self.recorded is None or self.now is None:
            return False
        return math.isclose(self.recorded, self.now, rel_tol=tolerance, abs_tol=tolerance)


def outputs(
    recorded: Mapping[tuple[str, str], str], now: Mapping[tuple[str, str], str]
) -> list[Output]:
    """Each recorded output beside what it is now; both as `hashes` gives them."""
    return [Output(*key, digest, now.get(key)) for key, digest in recorded.items()]


def hashes(graph: Graph, stages: Sequence[str] = ()) -> dict[tuple[str, str], str]:
    """DVC's hashes of what stages made, by stage and path; receipts, which name runs, left out.

    With `stages`, theirs and those of all stages before them.
    """
    wanted = with_upstream(graph, stages) if stages else set(graph.stages)
    return {
        (address, path): digest
        for address, stage in graph.stages.items()
        if address in wanted and stage.name != RECORD
        for path, digest in stage.out_digests.items()
        if not overlap(path, paths.RUNS.as_posix())
    }


def with_upstream(graph: Graph, stages: Sequence[str]) -> set[str]:
    """The addresses of `stages`, and of every stage that something of theirs was made from."""
    waiting = [address for address, stage in graph.stages.items() if stage.name in stages]
    found: set[str] = set()
    while waiting:
        address = waiting.pop()
        if address not in found:
            found.add(address)
            reads = graph.stages[address].deps
            waiting += [
                other
                for other, stage in graph.stages.items()
                if any(overlap(dep, out) for dep in reads for out in stage.outs)
            ]
    return found


def figures(tree: Path) -> dict[str, float]:
    """Every number of metrics/ by file and key."""
    found: dict[str, float] = {}
    for file in sorted((tree / paths.METRICS).glob("*.json")):
        found |= _numbers(read_json(file), file.stem)
    return found


def compared(recorded: Mapping[str, float], now: Mapping[str, float]) -> list[Figure]:
    """All numbers of either, side by side."""
    return [Figure(key, recorded.get(key), now.get(key)) for key in sorted({*recorded, *now})]


def _numbers(content: Any, prefix: str) -> dict[str, float]:
    if isinstance(content, dict):
        found: dict[str, float] = {}
        for key, value in content.items():
            found |= _numbers(value, f"{prefix}/{key}")
        return found
    number = isinstance(content, int | float) and not isinstance(content, bool)
    return {prefix: float(content)} if number else {}
