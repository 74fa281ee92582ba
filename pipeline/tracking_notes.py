"""The descriptions of runs, in Markdown: where a run comes from, where its outputs are.

`cliptune sync` gives a link the run's new id: it knows the form of `run_link`, and no other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.tracking_store import Connection


def run_link(experiment: str, run: str) -> str:
    """A link to a run, which shows the beginning of its id."""
    return f"[{run[:8]}](#/experiments/{experiment}/runs/{run})"


def place(receipt: Mapping[str, Any], *, connection: Connection) -> str:
    """A link to the run of a receipt, or where that run is instead of in this store."""
    run, uri = receipt["run_id"], receipt["tracking_uri"]
    if uri == connection.public_uri:
        return run_link(receipt["experiment_id"], run)
    return f"{run[:8]} in {uri}"


def stage_note(
    upstream: Mapping[str, Mapping[str, Any]],
    outs: Sequence[str],
    *,
    parent: str,
    connection: Connection,
) -> str:
    """The note of a stage's run: its pipeline, the runs whose outputs it reads, its own outputs.

    Three lines: of a longer note the UI shows the beginning.
    """
    found = [f"Part of {run_link(connection.experiment, parent)}"]
    if upstream:
        runs = (f"{stage} {place(r, connection=connection)}" for stage, r in upstream.items())
        found.append(f"Reads what came of {', '.join(runs)}")
    if outs:
        found.append(f"Writes {', '.join(f'`{out}`' for out in outs)}; DVC keeps them")
    return "\n\n".join(found)


def pipeline_note(
    receipts: Mapping[str, Mapping[str, Any]], how: Mapping[str, str], *, connection: Connection
) -> str:
    """The note of a pipeline's run: a table of the stages, the last one first, with their runs."""
    lines = ["| stage | how | run | ended |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {stage} | {how[stage]} | {place(receipt, connection=connection)} | {receipt['ended']} |"
        for stage, receipt in reversed(list(receipts.items()))
    ]
    return "\n".join(lines)
