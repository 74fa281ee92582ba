"""The runs of a trial in MLflow, marked as such: tags tune.study, tune.trial, tune.value."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifacts import read_json
from pipeline.errors import TrackingError
from pipeline.tracking_runs import search
from pipeline.tracking_store import Connection, first_line, reach


def store(root: Path) -> Connection | None:
    """The user's store; None: it does not answer, and trials are kept in the spool.

    Opened before the first trial, for an experiment that a clone made would have its files there.
    Raises TrackingError where the user wants to stop without it.
    """
    try:
        return reach(root, lambda _: None)[0]
    except TrackingError as error:
        if os.environ.get("CLIPTUNE_ON_UNREACHABLE") == "fail":
            raise
        sys.stderr.write(f"{error}\nTrials are kept here meanwhile, without tags of the sweep\n")
        return None


def tag(
    connection: Connection | None, name: str, receipt: Path, tags: Mapping[str, str | None]
) -> None:
    """Tag the runs of the experiment `name`; a store that has gone meanwhile costs no trial.

    They are those with its name, and, where DVC had the result already, that of the receipt.
    """
    if connection is None:
        return
    client = connection.client
    try:
        found = {run.info.run_id for run in search(connection, f"tags.`dvc.exp.name` = '{name}'")}
        if not found and receipt.is_file():
            made = read_json(receipt)
            found = {made[key] for key in ("run_id", "parent_run_id") if key in made}
        for run in sorted(found):
            for key, value in tags.items():
                if value is not None:
                    client.set_tag(run, f"tune.{key}", value)
    except Exception as error:
        sys.stderr.write(f"the runs of {name} are not tagged ({first_line(error)})\n")
