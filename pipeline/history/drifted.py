"""How far the data of now have moved from those that the champion was trained on.

`validate` and `embed` compare with the data that somebody accepted. The champion's own are what
matters for a promotion, and change with it: its runs hold their profiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline import paths
from pipeline.artifacts import read_json
from pipeline.clip import shift
from pipeline.errors import DataError
from pipeline.params import DriftParams, EmbeddingDriftParams
from pipeline.tracking_store import Connection
from pipeline.validation import drift

PROFILE = "profile.json"

Fetch = Callable[[str, str], dict[str, Any]]
"""A stage and the name of a JSON file among its run's artifacts → its content."""


@dataclass(frozen=True)
class Moved:
    """A figure of drift.

    Attributes:
        value: null where there is nothing to compare with.
        warn: above this it is drift; null: never.
        why: there is no value.
    """

    name: str
    value: float | None
    warn: float | None
    why: str = ""

    @property
    def above(self) -> bool:
        """Whether it is drift."""
        return self.value is not None and self.warn is not None and self.value > self.warn


def moved(fetch: Fetch, rows: DriftParams, pictures: EmbeddingDriftParams) -> list[Moved]:
    """Each figure of the present data against the profiles that `fetch` brings.

    `fetch` raises DataError where a run has none. `pictures` is the AUC of shift.py, of which the
    lower end of the interval counts.
    """
    return [*_rows(fetch, rows), _pictures(fetch, pictures)]


def fetched(connection: Connection, run: str) -> Fetch:
    """From the stages of the pipeline run with this id."""

    def fetch(stage: str, name: str) -> dict[str, Any]:
        try:
            tags = connection.client.get_run(run).data.tags
            with TemporaryDirectory() as folder:
                file = connection.client.download_artifacts(
                    tags[f"dvc.stage.{stage}.run_id"], name, folder
                )
                found: dict[str, Any] = read_json(Path(file))
        except Exception as error:  # whatever the client raises where there is none
            raise DataError(f"the champion's run of {stage} keeps no {PROFILE}") from error
        return found

    return fetch


def _rows(fetch: Fetch, limits: DriftParams) -> list[Moved]:
    warn = {name: getattr(limits, name).warn for name in drift.FIGURES}
    try:
        former = fetch("validate", f"quality/{PROFILE}")
        now = read_json(paths.QUALITY / PROFILE)
        figures = drift.measure(now, former)
    except (DataError, ValueError) as error:  # pydantic's is a ValueError: of another version
        return [Moved(name, None, warn[name], str(error).splitlines()[0]) for name in warn]
    if figures["rows"] is not None and now["rows"] >= former["rows"]:
        warn["rows"] = None  # that data grew is no reason to hold a model back
    return [Moved(name, figures[name], warn[name]) for name in warn]


def _pictures(fetch: Fetch, limits: EmbeddingDriftParams) -> Moved:
    try:
        former = shift.Profile.model_validate(fetch("embed", PROFILE))
        present = shift.Profile.model_validate(read_json(paths.EMBEDDINGS / PROFILE))
        found = shift.tell(present, former)
    except (DataError, ValueError) as error:
        return Moved("embeddings", None, limits.warn, str(error).splitlines()[0])
    return Moved("embeddings", found.low, limits.warn, found.why or "")
