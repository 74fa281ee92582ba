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

MACHINE_LEARNING = "workflowType=machine_learning"
"""In a link: MLflow's menus for training; by default it shows those for language models."""

PIPELINE_COLUMNS = [
    "attributes.`Duration`",
    "metrics.`evaluate/target/final/top1`",
    "metrics.`evaluate/target/base/top1`",
    "metrics.`evaluate/target/gain/top1/value`",
    "metrics.`evaluate/target/gain/top1/low`",
    "metrics.`evaluate/choice/forgotten`",
    "metrics.`evaluate/alpha`",
    "params.`finetune.method`",
    "params.`finetune.lr`",
    "params.`finetune.epochs`",
    "params.`model.name`",
    "params.`data.source`",
    "tags.`pipeline.complete`",
    "tags.`source.dirty`",
]

STAGE_COLUMNS = [
    "attributes.`Duration`",
    "tags.`dvc.stage`",
    "tags.`error`",
    "tags.`source.dirty`",
    "attributes.`Dataset`",
]

FIRST = {"attributes.`Run Name`": 230, "runDateAndNestInfo": 150}
"""What the UI shows in any view, under its table's names, and how wide: stage, commit and time."""

IN_TABLE = {"attributes.`Duration`": "duration"}
"""Columns whose name in the table is another than in the list of those to show."""

NOTE = """\
[Pipelines]({pipelines}) · [Stages]({stages})

Each `dvc repro` or `dvc exp run` is one run; its stages are its child runs.
"""


def describe(client: "MlflowClient", experiment: str) -> None:
    """Give a new experiment its note and its views, as far as the store takes them."""
    note = NOTE.format(pipelines=link(experiment, PIPELINES), stages=link(experiment, STAGES))
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": note,
        f"mlflow.sharedViewState.{PIPELINES}": _view(
            "Pipelines", "pipeline", PIPELINE_COLUMNS, order="attributes.start_time"
        ),
        # By start time the table nests stages below pipelines that it keeps folded; runs of one
        # user come newest first as well.
        f"mlflow.sharedViewState.{STAGES}": _view(
            "Stages", "stage", STAGE_COLUMNS, order="tags.`mlflow.user`"
        ),
    }
    with suppress(Exception):  # a run must not fail by its decoration
        for key, value in tags.items():
            client.set_experiment_tag(experiment, key, value)


def link(experiment: str, view: str) -> str:
    """The part of the address that leads to a view, after that of the server."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={view}&{MACHINE_LEARNING}"


def _width(column: str) -> int:
    """Pixels in which a column's whole name shows: by default all metrics look alike."""
    if column == "attributes.`Dataset`":
        return 280  # a path, and how many more there are
    return 50 + 7 * len(column.split("`")[1])


def _view(name: str, role: str, columns: list[str], *, order: str) -> str:
    """The tag's value: runs of a role in this order, newest first, with these columns."""
    widths = {IN_TABLE.get(column, column): _width(column) for column in columns}
    state: dict[str, Any] = {
        "searchFilter": f"tags.`pipeline.role` = '{role}'",
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [*FIRST, *widths],
        "columnWidths": FIRST | widths,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    now = int(time.time() * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(view)
