"""Runs that are in the spool as a whole → the store, with the links between them."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.artifacts import write_text
from pipeline.tracking_runs import SPOOLED, search
from pipeline.tracking_session import still_runs
from pipeline.tracking_sink import Operation, send
from pipeline.tracking_store import Connection, open_experiment, spool, spool_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SENT_TO = "sent.run_id"
SENT_IN = "sent.experiment_id"
SENT_STORE = "sent.tracking_uri"
"""The tags of a run in the spool that has been sent: its place in the store.

By these a journal, or a run that is sent later, finds it when a sync was cut short after it."""

MERGED = "spool.merged"
"""The tag of a run that its execution had in the store beside one in the spool."""

PAGE = 1000
"""Runs that a store lists at once."""


class _Spooled(NamedTuple):
    """A run of the spool, and where it goes."""

    run: "Run"
    experiment: str
    target: str
    merged: bool  # into the run that its execution has in the store already


class Names:
    """Old run ids and the new ones; texts that hold old ones, with the new ones."""

    def __init__(
        self,
        known: Mapping[str, str],
        *,
        spool_uri: str,
        experiments: Mapping[str, str],
        sent: Mapping[str, str] | None = None,
        stages: Sequence[str] = (),
    ):
        """`experiments`: of each old id, where its new run is; `sent`: those of now, which are of
        these `stages`.
        """
        self.known = known
        self.sent = dict(sent or {})
        self.stages = list(stages)
        self._spool_uri = spool_uri
        self._experiments = experiments

    def new(self, text: str) -> str:
        """`text` with each old id replaced, as a link where a table names it by its store."""
        for old, new in self.known.items():
            if old[:8] in text:
                link = f"[{new[:8]}](#/experiments/{self._experiments[old]}/runs/{new})"
                shown = rf"\[{old[:8]}\]\(#/experiments/\d+/runs/{old}\)"
                told = rf"{old[:8]} in {re.escape(self._spool_uri)}"
                text = re.sub(f"{shown}|{told}", link, text).replace(old, new)
        return text


def session_of(run: "Run") -> str:
    """The execution that a run belongs to; empty where it says none."""
    return str(run.data.tags.get("pipeline.session", ""))


def stage_of(run: "Run") -> str:
    """The stage that a run is of, or `pipeline`; empty where it says neither."""
    tags = run.data.tags
    return str(tags.get("dvc.stage") or tags.get("pipeline.role", ""))


def send_runs(connection: Connection, root: Path, waiting: set[str]) -> Names:
    """Send the spool's runs: first all are made, so that links between them can be."""
    file = spool(root) / "mlflow.db"
    if not file.is_file():
        return Names({}, spool_uri=spool_uri(root), experiments={})
    from mlflow import MlflowClient  # noqa: PLC0415 - seconds; reach() has imported it

    source = MlflowClient(tracking_uri=spool_uri(root), registry_uri=spool_uri(root))
    chosen, gone = [], []
    for experiment in source.search_experiments():
        gone += [
            run
            for run in _all_runs(source, experiment.experiment_id, deleted=True)
            if run.data.tags.get(SENT_STORE) == connection.public_uri
        ]
        runs = _all_runs(source, experiment.experiment_id)
        busy = {session for session in map(session_of, runs) if still_runs(session)}
        waiting |= busy
        ready = [run for run in runs if session_of(run) not in busy]
        if ready:
            client = connection.client
            to = open_experiment(client, experiment.name, _artifacts(connection, root))
            into = Connection(client, to, connection.uri, spooled=False)
            chosen += [_made(into, run) for run in ready]
    names = Names(
        {run.info.run_id: run.data.tags[SENT_TO] for run in gone}
        | {each.run.info.run_id: each.target for each in chosen},
        spool_uri=spool_uri(root),
        experiments={run.info.run_id: run.data.tags[SENT_IN] for run in gone}
        | {each.run.info.run_id: each.experiment for each in chosen},
        sent={each.run.info.run_id: each.target for each in chosen},
        stages=[stage_of(each.run) for each in chosen],
    )
    for each in chosen:
        _fill(connection.client, source, each, names, _files(root, each.run))
    for session, experiment in {(session_of(each.run), each.experiment) for each in chosen}:
        _relink(Connection(connection.client, experiment, connection.uri, False), session, names)
    for each in chosen:
        _forget(source, each, _files(root, each.run), store=connection.public_uri)
    return names


def _artifacts(connection: Connection, root: Path) -> str | None:
    return None if connection.uri.startswith("http") else (root / "mlruns").as_uri()


def _all_runs(client: "MlflowClient", experiment: str, *, deleted: bool = False) -> list["Run"]:
    """Oldest first."""
    from mlflow.entities import ViewType  # noqa: PLC0415 - as above

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            run_view_type=view,
            max_results=PAGE,
            order_by=["start_time ASC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _made(into: Connection, run: "Run") -> _Spooled:
    """The run's place in the store: what a sync made before, what its execution has, or new."""
    old, tags = run.info.run_id, run.data.tags
    known = search(into, f"tags.`{SPOOLED}` = '{old}'")
    if known:
        merged = known[0].data.tags.get(MERGED) == "true"
        return _Spooled(run, into.experiment, known[0].info.run_id, merged)
    if tags.get("pipeline.role") == "pipeline" and session_of(run):
        own = f"tags.`pipeline.session` = '{session_of(run)}'"
        for there in search(into, own, role="pipeline"):
            target = there.info.run_id
            send(
                into.client, {"op": "tags", "run": target, "values": {SPOOLED: old, MERGED: "true"}}
            )
            return _Spooled(run, into.experiment, target, merged=True)
    made = into.client.create_run(
        into.experiment,
        start_time=run.info.start_time,
        run_name=run.info.run_name,
        tags={SPOOLED: old, **{k: tags[k] for k in ("pipeline.session",) if k in tags}},
    )
    return _Spooled(run, into.experiment, made.info.run_id, merged=False)


def _fill(
    client: "MlflowClient", source: "MlflowClient", each: _Spooled, names: Names, files: Path
) -> None:
    """Everything that the spool knows of a run; twice does no harm."""
    run, target = each.run, each.target
    tags = {key: names.new(text) for key, text in run.data.tags.items()}
    if each.merged:
        there = client.get_run(target).data.tags
        tags = {key: text for key, text in tags.items() if key not in there}
    metrics = [
        [point.key, point.value, point.timestamp, point.step]
        for key in run.data.metrics
        for point in source.get_metric_history(run.info.run_id, key)
    ]
    operations: list[Operation] = [
        {"op": "params", "values": dict(run.data.params)},
        {"op": "metrics", "values": metrics},
    ]
    operations += [
        {"op": "inputs", "values": {one.dataset.name: one.dataset.digest}}
        for one in run.inputs.dataset_inputs
    ]
    if files.is_dir():
        _rename_in(files, names)
        operations += [
            {"op": "artifact", "path": str(path), "folder": ""}
            for path in sorted(files.iterdir())
            # A merged run has its own sources, by which its tags go.
            if not (each.merged and path.name == "source")
        ]
    operations.append({"op": "tags", "values": tags})
    if not each.merged:
        status = run.info.status if run.info.status != "RUNNING" else "KILLED"
        ended = run.info.end_time or run.info.start_time
        operations.append({"op": "status", "status": status, "milliseconds": ended})
    for operation in operations:
        send(client, operation | {"run": target})


def _rename_in(files: Path, names: Names) -> None:
    """A model names the run that it belongs to."""
    for file in files.glob("*/MLmodel"):
        write_text(file, names.new(file.read_text(encoding="utf-8")))


def _relink(into: Connection, session: str, names: Names) -> None:
    """Runs of an execution that named spooled ones before these had a place in the store."""
    if not session:
        return
    for run in search(into, f"tags.`pipeline.session` = '{session}'"):
        changed = {
            key: names.new(text)
            for key, text in run.data.tags.items()
            if key != SPOOLED and names.new(text) != text
        }
        if changed:
            send(into.client, {"op": "tags", "run": run.info.run_id, "values": changed})


def _forget(source: "MlflowClient", each: _Spooled, files: Path, *, store: str) -> None:
    old = each.run.info.run_id
    where = {SENT_TO: each.target, SENT_IN: each.experiment, SENT_STORE: store}
    send(source, {"op": "tags", "run": old, "values": where})
    source.delete_run(old)
    shutil.rmtree(files.parent, ignore_errors=True)


def _files(root: Path, run: "Run") -> Path:
    """Where the spool keeps a run's artifacts, also where the work tree has another path by now."""
    return spool(root) / "mlruns" / str(run.info.run_id) / "artifacts"
