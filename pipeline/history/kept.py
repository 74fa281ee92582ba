"""What two runs have kept, side by side: outputs in DVC's cache, or on its remote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.errors import DataError
from pipeline.lineage_dvc import Graph, read_graph
from pipeline.registry import trees
from pipeline.tracking_records import Record

SHOWN = 12
"""Lines of one kind."""

Section = tuple[list[str], Any]
"""Lines for people, facts for programs."""

Files = dict[str, Path]
"""The files of an output by their names in it."""


def graph_of(record: Record) -> Graph:
    """The stages of a run, with the hashes that its dvc.lock records."""
    files = [file.relative_to(record.sources) for file in record.sources.rglob("dvc.yaml")]
    return read_graph(record.sources, sorted(files))


def digest(graph: Graph, path: Path) -> str | None:
    """DVC's hash of an output; None: no stage makes it."""
    found = (stage.out_digests.get(path.as_posix()) for stage in graph.stages.values())
    return next((one for one in found if one), None)


def kept(root: Path, record: Record, graph: Graph, path: Path) -> Files | None:
    """The files of an output of a run, where the cache has them, or the remote."""
    known = digest(graph, path)
    if known is None:
        return None
    found = trees.cached(root, known)
    if found is None:
        folder = root / paths.WORK / "reproduce" / f"{record.run_id[:12]}-fetch"
        try:
            with trees.worktree(root, record.commit, folder, commits=record.commits) as tree:
                trees.fetch(
                    tree, root, patch=record.patch, sources=record.sources, path=path.as_posix()
                )
        except DataError:  # the commit is not here: then the cache is all there is
            return None
        found = trees.cached(root, known)
    return found


def more(items: Sequence[str], shown: int = SHOWN) -> list[str]:
    """How many lines are left out."""
    return [f"and {len(items) - shown:,} more"] if len(items) > shown else []
