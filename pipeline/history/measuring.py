"""The challenger beside the champion: both on the pictures of now, and the gates that decide."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd
import torch

from pipeline import paths
from pipeline.artifacts import read_json
from pipeline.clip import device as devices
from pipeline.clip.model import WEIGHTS_FILE, Clip, load, locate
from pipeline.data.sources.named import named_columns
from pipeline.errors import CliptuneError, DataError, ModelError
from pipeline.evaluation import prompts, sets
from pipeline.evaluation.duel import Duel, duel, without
from pipeline.evaluation.sets import TARGET, EvalSet
from pipeline.history.drifted import Moved, fetched, moved
from pipeline.history.kept import graph_of, kept
from pipeline.params import PromoteCommand
from pipeline.registry import bundle
from pipeline.registry.gates import Gate, judge
from pipeline.tracking_records import SOURCE, read_record
from pipeline.tracking_store import Connection, first_line

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

TIMED = 20
"""Pictures embedded one by one, of which the median time counts."""

KEPT_AT = f"model/artifacts/{paths.FINAL.name}"
"""Where the run of evaluate keeps the bundle."""


BY_HAND = (
    "the champion was registered by hand: what it was trained on, and how far the data moved "
    "since, is not known"
)


@dataclass
class Measured:
    """What was found of both models, the gates, and how far the data moved.

    `notes`: what a reader has to know of the figures.
    """

    found: Duel
    gates: list[Gate]
    drift: list[Moved] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measure(
    connection: Connection, champion: "ModelVersion | None", root: Path, params: PromoteCommand
) -> Measured:
    """Measure models/final beside the champion, or beside its base model where there is none.

    Raises ModelError for a bundle that does not load, DataError for a set that can't be read.
    """
    device = devices.prepare(cpu_threads=params.cpu_threads)
    challenger = bundle.load(paths.FINAL)
    measured, notes = _sets(params), []
    drift = []
    run = champion.tags.get("pipeline.run_id") if champion else None
    if champion is not None:
        seen, note = _trained_on(root, run) if run else (frozenset[str](), BY_HAND)
        measured[TARGET], left_out = without(measured[TARGET], seen)
        notes = [note] if note else []
        if left_out:
            notes.append(
                f"{left_out:,} of the test pictures are left out: the champion was trained on "
                "them, or on near-duplicates of theirs"
            )
        if run:
            drift = moved(fetched(connection, run), params.limits.drift, params.embed.drift)
    with _champion(connection, champion, root, params) as other:
        found = duel(
            other,
            challenger,
            measured,
            params.evaluate,
            columns=named_columns(
                params.data, params.evaluate.slices.columns, key="evaluate.slices.columns"
            ),
            seed=params.seed,
            device=device,
        )
    gates = judge(
        found,
        params.promote,
        validated=read_json(paths.metrics_file("validate")),
        moved=_above(drift) if run else None,
        megabytes=(paths.FINAL / WEIGHTS_FILE).stat().st_size / 1e6,
        milliseconds=latency(challenger, device=device),
    )
    return Measured(found, gates, drift, notes)


def _above(drift: list[Moved]) -> list[str]:
    return [f"{one.name} {one.value:.2f} (above {one.warn:g})" for one in drift if one.above]


def latency(clip: Clip, *, device: torch.device) -> float:
    """Milliseconds in which a picture by itself is embedded, fp32, the median of some."""
    size = clip.model.visual.image_size  # type: ignore[union-attr]
    height, width = (size, size) if isinstance(size, int) else size  # type: ignore[misc]
    picture = torch.zeros(1, 3, int(height), int(width), device=device)
    times = []
    with torch.inference_mode():
        for _ in range(TIMED):
            began = time.perf_counter()
            clip.model.encode_image(picture)  # type: ignore[operator]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(1000 * (time.perf_counter() - began))
    return median(times)


def _sets(params: PromoteCommand) -> dict[str, EvalSet]:
    return {
        TARGET: sets.target(paths.CLEAN, Path(params.data.source), packed=paths.PACKED),
        **sets.general(
            Path(params.evaluate.general),
            scratch=paths.GENERAL,
            template=prompts.caption_template(params.evaluate.templates),
        ),
    }


@contextmanager
def _champion(
    connection: Connection, version: "ModelVersion | None", root: Path, params: PromoteCommand
) -> Iterator[Clip]:
    """The champion's model, else the base model of params.yaml."""
    if version is None:
        yield load(locate(params.model.pretrained), architecture=params.model.name)
        return
    (root / paths.WORK).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root / paths.WORK) as folder:
        try:
            found = Path(connection.client.download_artifacts(version.run_id, KEPT_AT, folder))
        except Exception as error:  # whatever the client raises where there is none
            raise ModelError(
                f"the champion, version {version.version}, can't be fetched ({first_line(error)}). "
                "Where the server is well, its run is lost, or is none of `dvc repro`: give the "
                "alias champion to another version in MLflow, or delete it, and the challenger is "
                "measured against its base model"
            ) from error
        yield bundle.load(found)


def _trained_on(root: Path, run: str) -> tuple[frozenset[str], str]:
    """Ids of the pictures that a pipeline run trained on; and what to say where nobody knows.

    The split is a function of a picture's content, so the same picture is in one part for good. But
    a split of the user's own, its shares or the seed may have changed since.
    """
    try:
        with TemporaryDirectory(dir=root / paths.WORK) as folder:
            _, record = read_record(root, run, Path(folder))
            clean = kept(root, record, graph_of(record), paths.CLEAN)
            if clean is None:
                raise DataError(f"{paths.CLEAN} of it is in no cache and no remote")
            pairs = pd.read_parquet(clean["pairs.parquet"], columns=["image_id", "split"])
    except CliptuneError as error:
        return frozenset(), (
            "whether the champion was trained on test pictures of now is not known: its run "
            f"{run} has no {SOURCE}/ with its data ({error})"
        )
    return frozenset(pairs.loc[pairs["split"] == "train", "image_id"]), ""
