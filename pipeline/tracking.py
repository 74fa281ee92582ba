"""A stage as a run: `with stage_run("clean", params) as run: run.metrics(...)`.

Each stage of a `dvc repro` is an MLflow run below the run of the execution as a whole, with its
params, its metrics, the hashes of its data and the state of the code. What a stage found lies in
metrics/<stage>.json whatever becomes of the tracking store, and runs/<stage>.json, its receipt,
says which run made the outputs, also when DVC brings them back from its cache later.

tracking.py           stage_run, the only entry for stages
tracking_session.py   which execution a stage belongs to; how it ends with it
tracking_runs.py      the tags of a run and the run of the execution
tracking_store.py     the store, or the spool while it does not answer
tracking_sink.py      sending, in a thread; the journal when the store dies
tracking_system.py    samples of the machine while a stage runs
tracking_views.py     what the UI shows first
tracking_notes.py     the descriptions of runs
tracking_model.py     a bundle as a model of MLflow; tracking_model_code.py runs in it
recording.py          the stage `record`, which completes the run of the execution

No stage lists these, or lineage*.py, as a dependency in dvc.yaml: how a run is logged does not
change what it computes, and must not cost a training. Importing this module is cheap and silent:
MLflow takes seconds to import and is imported where a run begins.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.artifacts import write_json
from pipeline.errors import CliptuneError
from pipeline.lineage_secrets import redact, redacted
from pipeline.params import Section
from pipeline.tracking_notes import stage_note
from pipeline.tracking_runs import (
    Origin,
    PipelineRun,
    flat,
    metric_name,
    param_text,
    pipeline_run,
    read_origin,
    upstream,
    write_sources,
)
from pipeline.tracking_session import current_session, stoppable
from pipeline.tracking_sink import Sink
from pipeline.tracking_store import Connection, connect, main_tree, spool, waits
from pipeline.tracking_system import sampled

if TYPE_CHECKING:
    import pandas as pd


class StageRun:
    """The run of a stage; nothing that becomes of the tracking store shows in what it does.

    `facts` says which run this is, in words: commit, run, time, and a link where there is one. They
    vary by run, so no result may hold them.
    """

    def __init__(self, stage: str, *, run: str, sink: Sink):
        """`stage_run` makes it."""
        self.stage = stage
        self.run_id = run
        self.found: dict[str, float] = {}
        self.facts: dict[str, str] = {}
        self._tables: list[dict[str, str]] = []
        self._sink = sink

    def metrics(self, found: Mapping[str, Any]) -> None:
        """Write what the stage found to metrics/<stage>.json and log its numbers as `<stage>/…`.

        The file is the stage's result: it holds nothing that varies by run. Raises ValueError for
        NaN and infinity.
        """
        write_json(paths.metrics_file(self.stage), dict(found))
        leaves = flat(found, joint="/", prefix=f"{self.stage}/")
        numbers = {key: value for key, value in leaves.items() if isinstance(value, int | float)}
        self.found = {metric_name(key): float(value) for key, value in numbers.items()}
        self._send(self.found, step=0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log `<stage>/<key>` at a step of the training; returns at once and never raises."""
        named = {metric_name(f"{self.stage}/{key}"): float(v) for key, v in values.items()}
        self._send(named, step=step)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file below `folder`, or a folder as `folder`, else by its name; then it may go.

        Raises FileNotFoundError where there is nothing at `path`.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: nothing to log")
        self._sink.put({"op": "artifact", "run": self.run_id, "path": str(path), "folder": folder})
        self._sink.flush()

    def table(self, frame: "pd.DataFrame", name: str) -> None:
        """Log a table as MLflow's own `log_table` does, so that its UI shows it beside others'.

        `name` is that of the artifact, which ends in .json.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            frame.to_json(file, orient="split", index=False)
            self.artifact(file)
        self._tables.append({"path": name, "type": "table"})
        values = {"mlflow.loggedArtifacts": json.dumps(self._tables)}
        self._sink.put({"op": "tags", "run": self.run_id, "values": values})

    def model(self, bundle: Path) -> None:
        """Log a bundle as a model of MLflow, `runs:/<run id>/model`; never raises."""
        from pipeline.tracking_model import logged  # noqa: PLC0415 - Pillow: see above

        with logged(bundle, run=self.run_id, work=main_tree() / paths.WORK) as operations:
            for operation in operations:
                self._sink.put(operation)
            self._sink.flush()

    def _send(self, values: Mapping[str, float], *, step: int) -> None:
        now = milliseconds()
        points = [[key, value, now, step] for key, value in values.items()]
        self._sink.put({"op": "metrics", "run": self.run_id, "values": points})


@contextmanager
def stage_run(stage: str, params: Section) -> Iterator[StageRun]:
    """Run a stage as an MLflow run below that of its execution.

    The run ends FINISHED with a receipt; FAILED, with the error as a tag, what it left as the
    artifact last_failed and without a receipt, when the block raises; KILLED when it is stopped
    (Ctrl-C, SIGTERM, the end of DVC). Raises TrackingError before any work when the store does not
    answer and the policy is to stop.
    """
    started = time.time()
    receipt = paths.receipt_file(stage)
    receipt.unlink(missing_ok=True)
    session = current_session()
    with stoppable(session.dvc) as told:
        origin = read_origin(session)
        root = main_tree()
        connection, (parent, run) = connect(root, partial(_begin, stage=stage, origin=origin))
        sink = Sink(
            connection.client,
            run=run,
            journal=spool(root) / f"{run}.jsonl",
            tracking_uri=connection.public_uri,
        )
        own = StageRun(stage, run=run, sink=sink)
        own.facts = _facts(connection, origin, run=run, started=started)
        try:
            logged = redacted(flat(params.model_dump(mode="json", by_alias=True), joint="."))
            inputs = origin.inputs(stage)
            _send_origin(sink, origin, run=run, parent=parent, params=logged, inputs=inputs)
            with sampled(sink, run=run):
                yield own
            own.found[f"{stage}/seconds"] = round(time.time() - started, 3)
            own.log({"seconds": own.found[f"{stage}/seconds"]}, step=0)
            sink.flush()
            facts = {"stage": stage, "params": logged, "metrics": own.found, "inputs": inputs}
            times = {"started": _utc(started), "ended": _utc(time.time())}
            where = _where(connection, origin, sink) | {"run_id": run, "parent_run_id": parent.run}
            write_json(receipt, facts | times | where)
        except BaseException as error:
            receipt.unlink(missing_ok=True)
            stopped = told.is_set() or isinstance(error, KeyboardInterrupt)
            if not stopped:
                sink.put({"op": "tags", "run": run, "values": {"error": _describe(error)}})
                _keep_left(own, error)
            _end(sink, stage, "KILLED" if stopped else "FAILED", run=run, parent=parent.run)
            raise
        _end(sink, stage, "FINISHED", run=run, parent=parent.run)


def _keep_left(run: StageRun, error: BaseException) -> None:
    """Log what a stage had found before the error that stopped it."""
    left = error.left if isinstance(error, CliptuneError) else None
    if left is not None and left.is_dir():
        run.artifact(left, "last_failed")


def milliseconds() -> int:
    """Now, as MLflow counts time."""
    return int(time.time() * 1000)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _describe(error: BaseException) -> str:
    """An error as a tag: one of the user's needs no class name, its message is complete."""
    name = "" if isinstance(error, CliptuneError) else f"{type(error).__name__}: "
    return f"{name}{redact(str(error))}"[:2000]


def _begin(connection: Connection, *, stage: str, origin: Origin) -> tuple[PipelineRun, str]:
    """Find or make the run of the execution, and start that of the stage below it."""
    client = connection.client
    verb = "repro" if origin.session.dvc else f"{stage} alone"
    parent = pipeline_run(connection, origin, verb=verb)
    if not parent.fresh:
        client.update_run(parent.run, status="RUNNING")
    elif not connection.spooled and (left := waits(main_tree())):
        sys.stderr.write(
            f"{left} runs and journals wait in the spool: `cliptune sync` sends them\n"
        )
    read = upstream(connection, origin, stage)
    tags = {
        "mlflow.parentRunId": parent.run,
        "mlflow.note.content": stage_note(
            read, origin.outs(stage), parent=parent.run, connection=connection
        ),
        "mlflow.source.name": f"stages/{stage}.py",
        "mlflow.source.type": "LOCAL",
        "pipeline.role": "stage",
        "dvc.stage": stage,
    }
    tags |= {f"dvc.upstream.{name}.run_id": r["run_id"] for name, r in read.items()}
    run = client.create_run(
        connection.experiment, tags=origin.tags | tags, run_name=origin.stage_title(stage)
    )
    return parent, run.info.run_id


def _send_origin(
    sink: Sink,
    origin: Origin,
    *,
    run: str,
    parent: PipelineRun,
    params: Mapping[str, Any],
    inputs: Mapping[str, str | None],
) -> None:
    """Params and inputs of the stage; the sources with the run that they are not known of yet."""
    texts = {key: param_text(value) for key, value in params.items()}
    sink.put({"op": "params", "run": run, "values": texts})
    known = {path: digest for path, digest in inputs.items() if digest}
    if known:
        sink.put({"op": "inputs", "run": run, "values": known})
    if parent.fresh or parent.patch_digest != origin.patch_digest:
        # The tree may have been edited since the execution began: then this stage keeps its own.
        send_sources(sink, origin, run=parent.run if parent.fresh else run)


def send_sources(sink: Sink, origin: Origin, *, run: str) -> None:
    """Log what it takes to rebuild the work tree as source/ of a run."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder, "source")
        write_sources(sources, origin)
        sink.put({"op": "artifact", "run": run, "path": str(sources), "folder": ""})
        sink.flush()


def _where(connection: Connection, origin: Origin, sink: Sink) -> dict[str, Any]:
    """The part of a receipt that says where its run is and which code it ran."""
    return {
        "session": origin.session.name,
        "experiment_id": connection.experiment,
        "tracking_uri": connection.public_uri,
        "spooled": connection.spooled,
        "journal": sink.journal.name if sink.journal else None,
        "commit": origin.code.commit,
        "dirty": origin.code.dirty,
    }


def _facts(connection: Connection, origin: Origin, *, run: str, started: float) -> dict[str, str]:
    """Which run this is, for a reader of its artifacts."""
    code, uri = origin.code, connection.public_uri
    known = f"{code.commit}{', with changes that are not committed' if code.dirty else ''}"
    link = f"{uri.rstrip('/')}/#/experiments/{connection.experiment}/runs/{run}"
    facts = {
        "commit": known if code.commit else "none: no git repository",
        "started": _utc(started),
        "MLflow run": run,
        "tracking store": uri,
    }
    return facts | ({"link": link} if uri.startswith("http") else {})


def _end(sink: Sink, stage: str, status: str, *, run: str, parent: str) -> None:
    """Close the run; that of the execution says so and is closed too, until a next stage begins."""
    how = "executed" if status == "FINISHED" else status.lower()
    tags = {f"dvc.stage.{stage}": how, f"dvc.stage.{stage}.run_id": run}
    sink.put({"op": "tags", "run": parent, "values": tags})
    for each in (run, parent):
        sink.put({"op": "status", "run": each, "status": status, "milliseconds": milliseconds()})
    sink.close()
