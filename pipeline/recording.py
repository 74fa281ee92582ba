"""The stage `record`: the receipts of all stages → one complete MLflow run of the pipeline.

It depends on the receipts, so DVC runs it once for each distinct set of stage runs. The run of the
execution gets what only all stages together know: every param and metric, which stages were
executed and which were reused from which run, dvc.lock, and `pipeline.key`, the set's name.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import lineage_gaps, paths
from pipeline.artifacts import read_json, write_json
from pipeline.errors import TrackingError
from pipeline.lineage_dvc import Graph, dvc_files
from pipeline.tracking import milliseconds, send_sources
from pipeline.tracking_notes import pipeline_note
from pipeline.tracking_runs import (
    Origin,
    PipelineRun,
    copy_file,
    param_text,
    pipeline_run,
    place,
    present,
    read_origin,
    search,
)
from pipeline.tracking_session import current_session
from pipeline.tracking_sink import Sink
from pipeline.tracking_store import Connection, connect, main_tree, spool

STAGE = "record"

Receipts = Mapping[str, Mapping[str, Any]]
"""A receipt by its stage, in the order of the pipeline."""


def record_pipeline() -> None:
    """Complete the run of this execution, or find the one that recorded the same stage runs.

    Raises TrackingError when a receipt is missing, and as `stage_run` does.
    """
    origin = read_origin(current_session())
    receipts = read_receipts(origin.graph)
    key = pipeline_key(receipts)
    root = main_tree()
    connection, (parent, known, receipts) = connect(
        root, partial(_begin, origin=origin, key=key, receipts=receipts)
    )
    sink = Sink(
        connection.client,
        run=parent.run,
        journal=spool(root) / f"{parent.run}.jsonl",
        tracking_uri=connection.public_uri,
    )
    if not known:
        _complete(connection, sink, origin, parent=parent, key=key, receipts=receipts)
    sink.close()
    where = {"tracking_uri": connection.public_uri, "spooled": connection.spooled}
    runs = {stage: receipt["run_id"] for stage, receipt in receipts.items()}
    journal = {"journal": sink.journal.name if sink.journal else None}
    facts = {"run_id": parent.run, "experiment_id": connection.experiment, "key": key}
    write_json(paths.receipt_file("pipeline"), facts | where | journal | {"stages": runs})
    sys.stdout.write(f"MLflow: {place(connection, parent.run)}\n")


def read_receipts(graph: Graph) -> Receipts:
    """The receipts that `record` depends on."""
    here = graph.find(STAGE)
    if here is None:
        raise TrackingError(f"{paths.DVC_YAML} has no stage {STAGE}: there is nothing to record")
    found = {}
    for file in [Path(dep) for dep in here.deps if Path(dep).parent == paths.RUNS]:
        if not file.is_file():
            raise TrackingError(f"{file} is missing: `dvc repro` makes it")
        found[file.stem] = read_json(file)
    return found


def pipeline_key(receipts: Receipts) -> str:
    """The name of a set of stage runs."""
    runs = {stage: receipt["run_id"] for stage, receipt in receipts.items()}
    return hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).hexdigest()[:16]


def _begin(
    connection: Connection, *, origin: Origin, key: str, receipts: Receipts
) -> tuple[PipelineRun, bool, Receipts]:
    """The run to complete, whether it is complete already, and the receipts as of now."""
    now = {stage: present(connection, receipt) for stage, receipt in receipts.items()}
    same = search(connection, f"tags.`pipeline.key` = '{key}'", role="pipeline")
    if same:
        return PipelineRun(same[0].info.run_id, fresh=False, patch_digest=""), True, now
    ran = origin.session.name in {receipt["session"] for receipt in receipts.values()}
    return pipeline_run(connection, origin, verb="repro" if ran else "restored"), False, now


def _complete(
    connection: Connection,
    sink: Sink,
    origin: Origin,
    *,
    parent: PipelineRun,
    key: str,
    receipts: Receipts,
) -> None:
    """Send what makes the pipeline's run complete."""
    run, now = parent.run, milliseconds()
    if parent.fresh:
        send_sources(sink, origin, run=run)
    _send_locks(sink, run=run)
    all_of = {kind: _joined(receipts, kind) for kind in ("params", "metrics")}
    points = [[name, value, now, 0] for name, value in all_of["metrics"].items()]
    texts = {name: param_text(value) for name, value in all_of["params"].items()}
    sink.put({"op": "params", "run": run, "values": texts})
    sink.put({"op": "metrics", "run": run, "values": points})
    _send_missing_inputs(connection, sink, origin.graph, receipts)
    _send_missing_links(connection, sink, origin, receipts)
    how = {
        stage: "executed" if receipt["session"] == origin.session.name else "reused"
        for stage, receipt in receipts.items()
    }
    tags = {
        "pipeline.key": key,
        "pipeline.complete": "true",
        "dvc.lock.sha256": origin.graph.result_digest(),
        "mlflow.note.content": pipeline_note(receipts, how, connection=connection),
    }
    tags |= _reproducible(origin, parent)
    tags |= {f"dvc.stage.{stage}": value for stage, value in how.items()}
    tags |= {f"dvc.stage.{stage}.run_id": r["run_id"] for stage, r in receipts.items()}
    sink.put({"op": "tags", "run": run, "values": tags})
    sink.put({"op": "status", "run": run, "status": "FINISHED", "milliseconds": milliseconds()})


def _reproducible(origin: Origin, parent: PipelineRun) -> dict[str, str]:
    """Whether the run can be made again, as tags; a line on stderr where it can't."""
    gaps = [*parent.gaps, *origin.gaps]
    if parent.patch_digest != origin.patch_digest:
        gaps.append("the work tree was edited while the stages ran")
    found = lineage_gaps.tags(gaps, remote=origin.remote)
    if found["reproducible"] == "no":
        missing = "; ".join(dict.fromkeys(gaps))
        sys.stderr.write(
            f"this run can't be made again from its record: {missing}. Commit what is missing, or "
            "`dvc add` it, or list in .gitignore what is no part of it, before the next run\n"
        )
    return found


def _joined(receipts: Receipts, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for receipt in receipts.values():
        found |= receipt[kind]
    return found


def _send_locks(sink: Sink, *, run: str) -> None:
    """Log each dvc.lock at its place below source/."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder, "source")
        sources.mkdir()
        for file in dvc_files():
            copy_file(file.with_suffix(".lock"), sources)
        sink.put({"op": "artifact", "run": run, "path": str(sources), "folder": ""})
        sink.flush()


def _send_missing_inputs(
    connection: Connection, sink: Sink, graph: Graph, receipts: Receipts
) -> None:
    """Add to the stages' runs the hashes that DVC came to know only when they had finished."""
    found: dict[str, dict[str, str]] = {}
    for name, receipt in receipts.items():
        stage = graph.find(name)
        digests = stage.dep_digests if stage else {}
        unknown = [path for path, digest in receipt["inputs"].items() if digest is None]
        values = {path: digests[path] for path in unknown if path in digests}
        if values and receipt["tracking_uri"] == connection.public_uri:
            found[receipt["run_id"]] = values
    for run in _present(connection, list(found)):
        sink.put({"op": "inputs", "run": run, "values": found[run]})


def _send_missing_links(
    connection: Connection, sink: Sink, origin: Origin, receipts: Receipts
) -> None:
    """Link this execution's stage runs to those that made their inputs.

    In a clone (`dvc repro --pull --allow-missing`) DVC fetches a receipt when `record` needs it.
    """
    for name, receipt in receipts.items():
        stage = origin.graph.find(name)
        own = receipt["session"] == origin.session.name
        if stage and own and receipt["tracking_uri"] == connection.public_uri:
            above = [other for other in origin.graph.upstream(stage) if other in receipts]
            tags = {f"dvc.upstream.{other}.run_id": receipts[other]["run_id"] for other in above}
            sink.put({"op": "tags", "run": receipt["run_id"], "values": tags})


def _present(connection: Connection, runs: list[str]) -> list[str]:
    """Those of `runs` that the store still has."""
    if not runs:
        return []
    listed = ", ".join(f"'{run}'" for run in runs)
    try:
        return [run.info.run_id for run in search(connection, f"attributes.run_id IN ({listed})")]
    except Exception:  # a store that has just gone: the sink will find out and say so
        return []
