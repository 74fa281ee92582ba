"""`cliptune promote` and `cliptune rollback`: which model serves, in MLflow's registry.

The challenger is models/final of the last complete run. It is measured beside the champion (or,
while there is none, its base model) on the pictures of now, and takes its place only where it
passes every gate of `promote` in params.yaml (registry/gates.py).
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipeline import paths
from pipeline.artifacts import read_json, sha256_text
from pipeline.clip import device as devices
from pipeline.clip.model import WEIGHTS_FILE, Clip, load, locate
from pipeline.data.sources.named import named_columns
from pipeline.errors import ModelError, TrackingError
from pipeline.evaluation import prompts, sets
from pipeline.evaluation.duel import Duel, duel
from pipeline.evaluation.sets import TARGET
from pipeline.history.promotion import Promotion, written
from pipeline.history.registry import (
    BEFORE,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    ROLLED_BACK,
    Registry,
    number,
)
from pipeline.params import PromoteCommand
from pipeline.registry import bundle
from pipeline.registry.gates import Gate, judge, verdict
from pipeline.tracking_runs import present
from pipeline.tracking_store import Connection, first_line, reach

TIMED = 20
"""Pictures embedded one by one, of which the median time counts."""


def promote(root: Path, params: PromoteCommand, *, dry: bool) -> tuple[Promotion, Path]:
    """Judge models/final, and where it passes, make it the champion; the report's file.

    With `dry` the registry stays as it is. Raises TrackingError where there is no complete run, the
    store does not answer, or another promotion is under way or came first; ModelError for a bundle
    that is not that of the run.
    """
    connection, run, stage_run = _last(root)
    digest = _digest(paths.FINAL)
    _require_same(connection, stage_run, digest)
    registry = Registry(connection, params.promote.model)
    champion = registry.by_alias(CHAMPION)
    known = registry.by_bundle(digest)
    told = Promotion(
        "nothing new",
        params.promote.model,
        run.info.run_id,
        number(known),
        number(champion),
        [],
        None,
        dry,
    )
    if told.champion is not None and told.challenger == told.champion:
        return told, written(root, told)
    with _bundle_of(connection, champion, root) as folder:
        other = (
            load(locate(params.model.pretrained), architecture=params.model.name)
            if folder is None
            else bundle.load(folder)
        )
        told.found, told.gates = _judged(other, params)
    rolled_back = known.tags.get(ROLLED_BACK) if known else None
    if rolled_back:
        told.gates.append(Gate("not rolled back", f"it was, {rolled_back}", "never", False))
    told.verdict = verdict(told.gates)
    if not dry:
        _carry_out(registry, told, run, stage_run, digest)
    return told, written(root, told)


def rollback(root: Path, name: str) -> tuple[str, str]:
    """Give the alias `champion` back to the version before it; the two versions, old and new.

    The version that goes is not promoted again. Raises TrackingError where there is none before.
    """
    connection, _ = reach(root, lambda _: None)
    registry = Registry(connection, name)
    champion = registry.by_alias(CHAMPION)
    old = number(champion)
    if champion is None or old is None:
        raise TrackingError(f"{name!r} has no champion in {connection.public_uri}")
    before = champion.tags.get(BEFORE)
    if not before:
        raise TrackingError(f"version {old} of {name!r} is the first champion: "
                            "there is none before it to go back to")  # fmt: skip
    with registry.alone():
        registry.tag(old, {ROLLED_BACK: time.strftime("%Y-%m-%dT%H:%M:%S%z")})
        registry.alias(CHAMPION, before)
        earlier = registry.version(before).tags.get(BEFORE)
        if earlier:
            registry.alias(PREVIOUS, earlier)
        else:
            registry.forget(PREVIOUS)
    return old, before


def _last(root: Path) -> tuple[Connection, Any, str]:
    """The last complete run of the pipeline, and that of its stage evaluate."""
    try:
        receipt = read_json(root / paths.receipt_file("pipeline"))
    except FileNotFoundError:
        raise TrackingError("there is no complete run here: `dvc repro` makes one") from None
    connection, now = reach(root, lambda store: present(store, receipt))
    if now["spooled"]:
        raise TrackingError("the last run is in the spool: `cliptune sync` sends it to the store")
    try:
        run = connection.client.get_run(now["run_id"])
    except Exception as error:
        raise TrackingError(
            f"run {now['run_id']} is not in {connection.public_uri} ({first_line(error)})"
        ) from error
    return connection, run, str(run.data.tags["dvc.stage.evaluate.run_id"])


def _digest(folder: Path) -> str:
    """The hash of a bundle's files, each of which is looked at."""
    return sha256_text(json.dumps(bundle.verify(folder)[bundle.FILES], sort_keys=True))


def _require_same(connection: Connection, run: str, digest: str) -> None:
    """Raise ModelError where the run's model is not the one in models/final."""
    with TemporaryDirectory() as folder:
        try:
            file = connection.client.download_artifacts(run, f"{_PLACE}/{paths.MANIFEST}", folder)
        except Exception as error:
            raise ModelError(
                f"run {run} of evaluate holds no model ({first_line(error)}): with "
                "CLIPTUNE_LOG_MODEL=off none is logged, and none can be registered"
            ) from error
        files = read_json(Path(file))[bundle.FILES]
    if sha256_text(json.dumps(files, sort_keys=True)) != digest:
        raise ModelError(f"{paths.FINAL} is not the model of the last run: `dvc checkout`")


_PLACE = f"model/artifacts/{paths.FINAL.name}"
"""Where the run of evaluate keeps the bundle."""


@contextmanager
def _bundle_of(connection: Connection, version: Any, root: Path) -> Iterator[Path | None]:
    """A copy of the champion's bundle; None: there is no champion."""
    if version is None:
        yield None
        return
    (root / paths.WORK).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root / paths.WORK) as folder:
        yield Path(connection.client.download_artifacts(version.run_id, _PLACE, folder))


def _judged(champion: Clip, params: PromoteCommand) -> tuple[Duel, list[Gate]]:
    device = devices.prepare(cpu_threads=params.cpu_threads)
    challenger = bundle.load(paths.FINAL)
    source = Path(params.data.source)
    measured = {
        TARGET: sets.target(paths.CLEAN, source, packed=paths.PACKED),
        **sets.general(
            Path(params.evaluate.general),
            scratch=paths.GENERAL,
            template=prompts.caption_template(params.evaluate.templates),
        ),
    }
    found = duel(
        champion,
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
        megabytes=(paths.FINAL / WEIGHTS_FILE).stat().st_size / 1e6,
        milliseconds=latency(challenger, device=device),
    )
    return found, gates


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


def _carry_out(registry: Registry, told: Promotion, run: Any, stage_run: str, digest: str) -> None:
    tags = {
        "pipeline.run_id": run.info.run_id,
        "pipeline.key": run.data.tags["pipeline.key"],
        "dvc.lock.sha256": run.data.tags["dvc.lock.sha256"],
        "mlflow.source.git.commit": run.data.tags.get("mlflow.source.git.commit", ""),
    }
    version = str(number(registry.register(digest, run=stage_run, tags=tags)))
    told.challenger = version
    with registry.alone():
        now = number(registry.by_alias(CHAMPION))
        if now != told.champion:
            raise TrackingError(
                f"version {now} of {registry.name!r} became champion "
                "meanwhile: run this again, to be measured against it"
            )
        reasons = "; ".join(f"{g.name}: {g.found} ({g.asked})" for g in told.gates if not g.passed)
        registry.tag(
            version,
            {
                "promotion.verdict": told.verdict,
                "promotion.why": (reasons or "all gates passed")[:4000],
            },
        )
        registry.alias(CHALLENGER, version)
        if told.verdict == "promote":
            registry.crown(version)
