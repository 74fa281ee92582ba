"""What is sent to MLflow, one operation at a time, in a thread, and never lost.

An operation is a JSON object: `op`, the `run` it belongs to, and the rest. It goes to the tracking
store. From the first call on which the store fails, the rest goes to a journal, one JSON object a
line, which holds all that is needed to send it later (files are copied beside it). So a dead store
costs a stage the time of one call, and nothing else.

    {"op": "journal", "run": …, "tracking_uri": …}         the first line of a journal
    {"op": "params" | "tags", "run": …, "values": {key: text}}
    {"op": "metrics", "run": …, "values": [[key, value, milliseconds, step], …]}
    {"op": "inputs", "run": …, "values": {path: hash}}     what is no data set is left out
    {"op": "artifact", "run": …, "path": …, "folder": …}   path: from the journal's folder; a file
                                                           goes below folder, a folder becomes it
    {"op": "status", "run": …, "status": …, "milliseconds": …}
"""

import json
import queue
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import paths
from pipeline.lineage_secrets import redact
from pipeline.tracking_store import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

Operation = dict[str, Any]
Item = TypeVar("Item")

NUMBERS = (paths.METRICS, paths.PLOTS)

TEXTS = ("params", "tags", "inputs")
"""Operations whose values are texts."""

GATHER_S = 2.0
"""How long metrics wait for those of the next steps: a call costs SQLite 8 ms of a processor."""

MOST_METRICS = 1000
MOST_TEXTS = 100
"""What MLflow takes in one call: metrics, and params or tags."""


class Sink:
    """Sends operations to a store in the order in which they are put; nothing here raises."""

    def __init__(self, client: "MlflowClient", *, run: str, journal: Path, tracking_uri: str):
        """`journal` is written only when the store fails; `tracking_uri` holds no credentials."""
        self._client = client
        self._head = {"op": "journal", "run": run, "tracking_uri": tracking_uri}
        self._journal = journal
        self._dead = False
        self._complained = False
        self._queue: queue.SimpleQueue[Operation | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def journal(self) -> Path | None:
        """The journal, where one was needed."""
        return self._journal if self._journal.exists() else None

    def put(self, operation: Operation) -> None:
        """Send `operation` some time soon, its texts without credentials."""
        if operation["op"] in TEXTS:
            texts = {redact(key): redact(value) for key, value in operation["values"].items()}
            operation = operation | {"values": texts}
        self._queue.put(operation)

    def flush(self) -> None:
        """Wait until all that was put is sent or in the journal."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()

    def close(self) -> None:
        """Send the rest and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        """Take all that waits, send it, until None comes; metrics wait a while for more of them."""
        waiting: list[Operation] = []
        due = 0.0
        while True:
            item: Operation | threading.Event | None = threading.Event()  # if nothing more comes
            with suppress(queue.Empty):
                left = max(0.0, due - time.monotonic()) if waiting else None
                item = self._queue.get(timeout=left)
            if isinstance(item, dict):
                due = due if waiting else time.monotonic() + GATHER_S
                waiting.append(item)
                patient = item["op"] == "metrics" and time.monotonic() < due
                if patient or not self._queue.empty():
                    continue
            for operation in merged(waiting):
                self._deliver(operation)
            waiting.clear()
            if isinstance(item, threading.Event):
                item.set()
            if item is None:
                return

    def _deliver(self, operation: Operation) -> None:
        if not self._dead:
            try:
                send(self._client, operation)
            except (
                Exception
            ) as error:  # whatever goes wrong here must not cost the stage its result
                self._dead = not is_refusal(error)
                self._complain(error)
            else:
                return
        try:
            self._write(operation)
        except OSError as error:
            sys.stderr.write(f"{self._journal} can't be written ({error}): this part is lost\n")

    def _complain(self, error: Exception) -> None:
        if self._complained and not self._dead:
            return
        self._complained = True
        what, uri = first_line(error), self._head["tracking_uri"]
        if self._dead:
            sys.stderr.write(f"MLflow at {uri} stopped answering ({what})\n")
            sys.stderr.write(f"the stage goes on; the rest of its run is kept in {self._journal}\n")
        else:
            sys.stderr.write(f"MLflow at {uri} refused a call ({what}): it is in {self._journal}\n")

    def _write(self, operation: Operation) -> None:
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        lines = [operation] if self._journal.exists() else [self._head, operation]
        if operation["op"] == "artifact":
            lines[-1] = operation | {"path": self._keep(Path(operation["path"]))}
        with self._journal.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def _keep(self, path: Path) -> str:
        """Copy a file or folder beside the journal; its path from the journal's folder."""
        files = self._journal.with_suffix("")
        taken = len(list(files.iterdir())) if files.is_dir() else 0
        kept = files / str(taken) / path.name
        kept.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, kept)
        else:
            shutil.copy2(path, kept)
        return kept.relative_to(self._journal.parent).as_posix()


def merged(operations: Sequence[Operation]) -> list[Operation]:
    """The same operations; metrics of one run that follow each other become one."""
    found: list[Operation] = []
    for operation in operations:
        last = found[-1] if found else None
        if last and operation["op"] == last["op"] == "metrics" and operation["run"] == last["run"]:
            last["values"].extend(operation["values"])
        elif operation["op"] == "metrics":
            found.append(operation | {"values": list(operation["values"])})
        else:
            found.append(operation)
    return found


def send(client: "MlflowClient", operation: Operation) -> None:
    """Carry out one operation; raises what MLflow raises. Twice does no harm."""
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415 - seconds; see tracking.py

    run, kind = operation["run"], operation["op"]
    if kind == "params":
        for some in _parts(list(operation["values"].items()), MOST_TEXTS):
            client.log_batch(run, params=[Param(key, value) for key, value in some])
    elif kind == "tags":
        for some in _parts(list(operation["values"].items()), MOST_TEXTS):
            client.log_batch(run, tags=[RunTag(key, value) for key, value in some])
    elif kind == "metrics":
        for values in _parts(operation["values"], MOST_METRICS):
            points = [Metric(key, value, when, step) for key, value, when, step in values]
            client.log_batch(run, metrics=points)
    elif kind == "inputs":
        client.log_inputs(run, datasets=datasets(operation["values"]))
    elif kind == "artifact":
        _send_file(client, run, Path(operation["path"]), operation["folder"])
    elif kind == "status":
        client.set_terminated(run, operation["status"], end_time=operation["milliseconds"])
    else:
        raise ValueError(f"unknown operation {kind!r}")


def _send_file(client: "MlflowClient", run: str, path: Path, folder: str) -> None:
    if path.is_dir():
        client.log_artifacts(run, str(path), folder or path.name)
    else:
        client.log_artifact(run, str(path), folder or None)


def datasets(values: dict[str, str]) -> list["DatasetInput"]:
    """Dataset inputs, named by path; DVC's hash is the digest (`dataset.digest = …` finds runs).

    The numbers that an earlier stage found are inputs to DVC, and no data set to look for.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    tags = [InputTag("mlflow.data.context", "input")]
    data = [
        Dataset(name=path, digest=digest, source_type="local", source=json.dumps({"uri": path}))
        for path, digest in values.items()
        if Path(path).parent not in NUMBERS
    ]
    return [DatasetInput(one, tags=tags) for one in data]


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def is_refusal(error: Exception) -> bool:
    """Whether it is this one call that went wrong, and the next may go well."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return True
    status = getattr(error, "get_http_status_code", lambda: 500)()
    return 400 <= status < 500 and status not in {408, 429}
