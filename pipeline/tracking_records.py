"""What the tracking store holds of a run that was made before: found by id, name or model.

A stage's run has no dvc.lock of its own: DVC writes it when the stage has ended. So the record of a
stage is that of a pipeline run it belongs to, complete, and the name of the stage.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import read_json
from pipeline.errors import TrackingError
from pipeline.tracking_runs import SPOOLED, search
from pipeline.tracking_store import Connection, first_line, reach

if TYPE_CHECKING:
    from mlflow.entities import Run

SOURCE = "source"
"""The artifact folder with patch, params, dvc.yaml, dvc.lock and environment."""

LEAST_PREFIX = 6
MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class Record:
    """A complete pipeline run as the store has it.

    Attributes:
        run_id, name: as MLflow shows them.
        asked: the run that was asked for, which may be that of a stage.
        stage: the stage that was asked for; None: the pipeline.
        sources: a local copy of what the run keeps of its work tree.
        patch: what the work tree held beyond its commit; empty: nothing.
        environment: see lineage.environment.
    """

    run_id: str
    name: str
    asked: str
    stage: str | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    sources: Path
    patch: bytes
    environment: Mapping[str, Any]

    @property
    def commit(self) -> str:
        """Empty where there was no git repository."""
        return self.tags.get("mlflow.source.git.commit", "")

    @property
    def commits(self) -> Path | None:
        """A bundle of git's with what no remote had of the commit; None: there is none."""
        file = self.sources / "unpublished.bundle"
        return file if file.is_file() else None


def read_record(root: Path, name: str, folder: Path) -> tuple[Connection, Record]:
    """The record of the run called `name`; its sources are copied below `folder`.

    `name` is a run's id, the beginning of one, or the name of a pipeline run; or a registered
    model, `models:/NAME/VERSION` or `models:/NAME@ALIAS`, which stands for the run that made it.
    Raises TrackingError where the store does not answer, where there is no such run or more than
    one, and where no complete pipeline run holds it.
    """
    connection, asked = reach(root, lambda store: find(store, name))
    return connection, _record(connection, asked, folder)


def find(connection: Connection, name: str) -> "Run":
    """The run that `name` means; raises TrackingError."""
    model = MODEL.fullmatch(name)
    if model:
        return _of_model(connection, name, **model.groupdict())
    if re.fullmatch("[0-9a-f]{32}", name):
        return _by_id(connection, name)
    found = []
    if "'" not in name:  # which no search can hold: such a run is found by its id
        found = search(connection, f"attributes.run_name = '{name}'", role="pipeline")
    if not found and re.fullmatch(f"[0-9a-f]{{{LEAST_PREFIX},31}}", name):
        found = [run for run in _all(connection) if _is_called(run, name)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in found[:10])
        raise TrackingError(f"{len(found)} runs are called {name!r}: give the id of one: {ids}")
    raise TrackingError(
        f"there is no run {name!r} in {connection.public_uri}: give the id or the name of a "
        "pipeline run, the id of a stage's, or models:/NAME/VERSION"
    )


def _is_called(run: "Run", prefix: str) -> bool:
    """Also by the id that it had in the spool."""
    ids = (run.info.run_id, run.data.tags.get(SPOOLED, ""))
    return any(each.startswith(prefix) for each in ids)


def _all(connection: Connection) -> list["Run"]:
    runs: list[Run] = []
    token = None
    while True:
        page = connection.client.search_runs(
            [connection.experiment], max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _by_id(connection: Connection, run_id: str) -> "Run":
    try:
        return connection.client.get_run(run_id)
    except Exception as error:
        moved = search(connection, f"tags.`{SPOOLED}` = '{run_id}'")
        if moved:
            return moved[0]
        raise TrackingError(
            f"there is no run {run_id} in {connection.public_uri} ({first_line(error)})"
        ) from error


def _of_model(
    connection: Connection, text: str, *, name: str, version: str | None, alias: str | None
) -> "Run":
    client = connection.client
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if alias is None:
                found = client.get_model_version(name, str(version))
            else:
                found = client.get_model_version_by_alias(name, alias)
    except Exception as error:
        raise TrackingError(
            f"{text} is not registered in {connection.public_uri} ({first_line(error)})"
        ) from error
    if not found.run_id:
        raise TrackingError(f"{text} names no run that made it: it can't be reproduced")
    return _by_id(connection, found.run_id)


def _record(connection: Connection, asked: "Run", folder: Path) -> Record:
    stage = asked.data.tags.get("dvc.stage")
    run = asked if stage is None else _pipeline_of(connection, asked, stage)
    if run.data.tags.get("pipeline.complete") != "true":
        raise TrackingError(
            f"run {run.info.run_id} ({run.info.run_name}) is not complete, so it holds no dvc.lock "
            f"to prove anything by: its status is {run.info.status}"
        )
    commit = run.data.tags.get("mlflow.source.git.commit", "")
    if not re.fullmatch("(?:[0-9a-f]{40}|[0-9a-f]{64})?", commit):
        # Anyone who may write to the store can set a tag; git takes `--upload-pack=…` as an option.
        raise TrackingError(f"run {run.info.run_id}: {commit!r} is no hash of a git commit")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        sources = Path(connection.client.download_artifacts(run.info.run_id, SOURCE, str(folder)))
        environment = read_json(sources / "environment.json")
    except Exception as error:
        raise TrackingError(
            f"run {run.info.run_id} has no {SOURCE}/ that can be read ({first_line(error)})"
        ) from error
    patch = sources / "uncommitted.patch"
    return Record(
        run_id=run.info.run_id,
        name=run.info.run_name,
        asked=asked.info.run_id,
        stage=stage,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
        sources=sources,
        patch=patch.read_bytes() if patch.is_file() else b"",
        environment=environment,
    )


def _pipeline_of(connection: Connection, stage_run: "Run", stage: str) -> "Run":
    """The complete pipeline run that a stage's run is part of: its own, else one that reused it."""
    own = stage_run.data.tags.get("mlflow.parentRunId")
    complete = "tags.`pipeline.complete` = 'true'"
    part = f"tags.`dvc.stage.{stage}.run_id` = '{stage_run.info.run_id}'"
    there = replace(connection, experiment=stage_run.info.experiment_id)
    found = search(there, f"{complete} and {part}", role="pipeline")
    if not found:
        raise TrackingError(
            f"run {stage_run.info.run_id} is one of the stage {stage}, whose pipeline was never "
            "completed: no dvc.lock is recorded to prove it by. `dvc repro` to the end records one"
        )
    return next((run for run in found if run.info.run_id == own), found[0])
