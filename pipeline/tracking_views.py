"""What a newcomer sees first: a described experiment, and two saved views with the right columns.

A saved view (MLflow >= 3.15) is a tag of the experiment that the UI writes; its form is nobody's
promise, so a view that can't be written is left out.
"""

import base64
import json
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

PIPELINES = "cliptune-pipelines"
STAGES = "cliptune-stages"
"""The keys of the views in a link: `#/experiments/<id>/runs?viewStateShareKey=<key>`."""

PIPELINE_COLUMNS = [
    "attributes.`Duration`",
    "metrics.`evaluate/target/base/top1`",
    "metrics.`evaluate/target/final/top1`",
    "metrics.`evaluate/target/gain/top1/value`",
    "metrics.`evaluate/target/gain/top1/low`",
    "metrics.`evaluate/alpha`",
    "metrics.`evaluate/choice/forgotten`",
    "params.`finetune.lr`",
    "params.`finetune.epochs`",
    "params.`model.name`",
    "tags.`pipeline.complete`",
    "tags.`source.dirty`",
]

STAGE_COLUMNS = [
    "attributes.`Duration`",
    "attributes.`Dataset`",
    "tags.`dvc.stage`",
    "tags.`error`",
    "tags.`source.dirty`",
]

NOTE = """\
[Pipelines](#/experiments/{id}/runs?viewStateShareKey={pipelines}) · \
[Stages](#/experiments/{id}/runs?viewStateShareKey={stages})

Each `dvc repro` or `dvc exp run` is one run; its stages are its child runs.
"""


def describe(client: "MlflowClient", experiment: str) -> None:
    """Give a new experiment its note and its views, as far as the store takes them."""
    note = NOTE.format(id=experiment, pipelines=PIPELINES, stages=STAGES)
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": note,
        f"mlflow.sharedViewState.{PIPELINES}": _view("Pipelines", "pipeline", PIPELINE_COLUMNS),
        f"mlflow.sharedViewState.{STAGES}": _view("Stages", "stage", STAGE_COLUMNS),
    }
    with suppress(Exception):  # a run must not fail by its decoration
        for key, value in tags.items():
            client.set_experiment_tag(experiment, key, value)


def _width(column: str) -> int:
    """Pixels in which a column's whole name shows: by default all metrics look alike."""
    return 50 + 7 * len(column.split("`")[1])


def _view(name: str, role: str, columns: list[str]) -> str:
    """The tag's value: runs of a role, newest first, with these columns."""
    state: dict[str, Any] = {
        "searchFilter": f"tags.`pipeline.role` = '{role}'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: _width(column) for column in columns},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    now = int(time.time() * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(view)
