"""`cliptune promote`: which model serves, in MLflow's registry.

The challenger is models/final of the last complete run. It is measured beside the champion (or,
while there is none, its base model) on the pictures of now, and takes its place only where it
passes every gate of `promote` in params.yaml (registry/gates.py). A model that was judged already,
against the same champion and gates, is not judged again.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.artifacts import read_json, sha256_of, sha256_text
from pipeline.errors import ModelError, TrackingError
from pipeline.history.promotion import Promotion, written
from pipeline.history.registry import (
    AGAINST,
    ASKED,
    AT,
    CHALLENGER,
    CHAMPION,
    FIGURES,
    KEY,
    LONGEST,
    VERDICT,
    WHY,
    Registry,
    answering,
    number,
    rolled_back,
)
from pipeline.lineage_dvc import read_graph
from pipeline.params import PromoteCommand, PromoteParams
from pipeline.registry import gates
from pipeline.registry.gates import Gate, verdict
from pipeline.reporting.choice import choice_sentence
from pipeline.tracking_runs import present
from pipeline.tracking_store import Connection, first_line, reach

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LOCK = "dvc.lock.sha256"
"""The tag with the hash of all results of a run."""


def promote(
    root: Path,
    params: PromoteCommand,
    *,
    dry: bool,
    prepare: Callable[[bool], None] = lambda _: None,
) -> tuple[Promotion, Path]:
    """Judge models/final, and where it passes, make it the champion; the report's file.

    With `dry` the registry stays as it is. `prepare` is called before any model is looked at, with
    whether there is a champion; not where all was decided before. Raises TrackingError where there
    is no complete run, the store does not answer, or another promotion is under way or came first;
    ModelError for a bundle that is not that of the run.
    """
    connection, run, stage_run = _last(root)
    registry = Registry(connection, params.promote.model)
    with answering(connection):
        champion = registry.by_alias(CHAMPION)
        told = _settled(registry, run, champion, params.promote, dry=dry)
        if told is None:
            prepare(champion is not None)
            told = _judge(root, params, registry, (run, stage_run), dry=dry)
    return told, written(root, told)


def _last(root: Path) -> tuple[Connection, Any, str]:
    """The last complete run of the pipeline, and the id of its stage evaluate."""
    try:
        receipt = read_json(root / paths.receipt_file("pipeline"))
    except FileNotFoundError:
        raise TrackingError("there is no complete run here: `dvc repro` makes one, and in a clone "
                            "`dvc pull` fetches that of the commit") from None  # fmt: skip
    connection, now = reach(root, lambda store: present(store, receipt))
    if now["spooled"]:
        raise TrackingError(
            "the last run is in the spool: `cliptune sync` sends it to the store; where the spool "
            "is lost, `dvc repro --force` makes the run anew"
        )
    try:
        run = connection.client.get_run(now["run_id"])
    except Exception as error:
        raise TrackingError(
            f"run {now['run_id']} is not in {connection.public_uri} ({first_line(error)})"
        ) from error
    return connection, run, str(run.data.tags["dvc.stage.evaluate.run_id"])


def _settled(
    registry: Registry,
    run: Any,
    champion: "ModelVersion | None",
    params: PromoteParams,
    *,
    dry: bool,
) -> Promotion | None:
    """What was decided of a run before; None: nothing that still holds."""
    known = registry.by_key(run.data.tags[KEY])
    why = _known(known, champion, params) if known else ""
    return _nothing_new(registry, run, known, champion, dry=dry, why=why) if why else None


def _nothing_new(
    registry: Registry,
    run: Any,
    known: "ModelVersion | None",
    champion: "ModelVersion | None",
    *,
    dry: bool,
    why: str = "",
) -> Promotion:
    """What is told as long as nothing was measured; `known`: the version of the run's model."""
    return Promotion(
        "nothing new", registry.name, run.info.run_id, number(known), number(champion), dry, why
    )


def _serves(version: str | None) -> str:
    return f"the model of the last run is the champion, version {version}"


def _known(version: "ModelVersion", champion: "ModelVersion | None", params: PromoteParams) -> str:
    """Why a version need not be judged again; empty: it has to be."""
    tags, mine = version.tags, number(version)
    if mine == number(champion):
        return _serves(mine)
    if gone := rolled_back(version):
        return f"version {mine}, the model of the last run, was rolled back: {gone}"
    same = tags.get(AGAINST) == (number(champion) or "") and tags.get(ASKED) == _asked(params)
    if tags.get(VERDICT) == "hold" and same:
        return f"version {mine}, the model of the last run, was held on {tags[AT]}: {tags[WHY]}"
    return ""


def _judge(
    root: Path,
    params: PromoteCommand,
    registry: Registry,
    runs: tuple[Any, str],
    *,
    dry: bool,
) -> Promotion:
    from pipeline.history.measuring import measure  # noqa: PLC0415 - seconds; not if settled

    run, stage_run = runs
    digest = _digest(paths.FINAL)
    _require_same(registry.connection, stage_run, digest)
    if read_graph(root).result_digest() != run.data.tags[LOCK]:
        raise ModelError("what lies here is not all of the last run: a part was run since, with "
                         "other data or params, or git brought another dvc.lock. `dvc repro` "
                         "completes it; `dvc pull` fetches what belongs to dvc.lock")  # fmt: skip
    champion, known = registry.by_alias(CHAMPION), registry.by_bundle(digest)
    told = _nothing_new(registry, run, known, champion, dry=dry)
    if told.champion is not None and told.challenger == told.champion:
        told.why = _serves(told.champion)
        return told
    measured = measure(registry.connection, champion, root, params)
    told.found, told.gates = measured.found, measured.gates
    told.drift, told.notes = measured.drift, [*measured.notes, *_is_base(paths.FINAL)]
    if gone := rolled_back(known):
        told.gates.append(Gate("not rolled back", f"it was, {gone}", "never", False))
    told.verdict = verdict(told.gates)
    if not dry:
        _carry_out(registry, told, params.promote, runs=runs, digest=digest)
    return told


def _is_base(folder: Path) -> list[str]:
    """A note where `evaluate` went all the way back to the base model, and why."""
    record = read_json(folder / paths.MANIFEST)
    is_base = record.get("alpha") == 0
    return [choice_sentence(0, record["choice"]).removesuffix(".")] if is_base else []


def _digest(folder: Path) -> str:
    """The hash of a bundle's files, each of which is looked at."""
    from pipeline.registry import bundle  # noqa: PLC0415 - as above

    return sha256_text(json.dumps(bundle.verify(folder)[bundle.FILES], sort_keys=True))


def _require_same(connection: Connection, run: str, digest: str) -> None:
    """Raise ModelError where the run's model is not the one in models/final."""
    from pipeline.history.measuring import KEPT_AT  # noqa: PLC0415 - as above
    from pipeline.registry import bundle  # noqa: PLC0415

    with TemporaryDirectory() as folder:
        try:
            file = connection.client.download_artifacts(run, f"{KEPT_AT}/{paths.MANIFEST}", folder)
        except Exception as error:
            raise ModelError(
                f"run {run} of evaluate holds no model ({first_line(error)}): with "
                "CLIPTUNE_LOG_MODEL=off none is logged, and none can be registered; where the run "
                "itself is lost, `dvc repro --force` makes it anew"
            ) from error
        files = read_json(Path(file))[bundle.FILES]
    if sha256_text(json.dumps(files, sort_keys=True)) != digest:
        raise ModelError(f"{paths.FINAL} is not the model of the last run: `dvc checkout`")


def _asked(params: PromoteParams) -> str:
    """The gates that a model has to pass: their params, and how they are judged."""
    code = sha256_of(Path(gates.__file__))
    return sha256_text(json.dumps([params.model_dump(), code], sort_keys=True))[:16]


def _carry_out(
    registry: Registry,
    told: Promotion,
    params: PromoteParams,
    *,
    runs: tuple[Any, str],
    digest: str,
) -> None:
    """Register, tag and crown, in an order that this same function completes after a death."""
    run, stage_run = runs
    tags = {
        "pipeline.run_id": run.info.run_id,
        KEY: run.data.tags[KEY],
        LOCK: run.data.tags[LOCK],
        "mlflow.source.git.commit": run.data.tags.get("mlflow.source.git.commit", ""),
    }
    version = str(number(registry.register(digest, run=stage_run, tags=tags)))
    told.challenger = version
    with registry.alone() as still:
        now = number(registry.by_alias(CHAMPION))
        if now != told.champion:
            raise TrackingError(
                f"version {now} of {registry.name!r} became champion "
                "meanwhile: run this again, to be measured against it"
            )
        registry.alias(CHALLENGER, version)
        said = {
            WHY: told.reasons[:LONGEST],
            AT: time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            AGAINST: told.champion or "",
            ASKED: _asked(params),
            FIGURES: _few(told.figures),
        }
        # The verdict last: it is what says that the others are there.
        registry.tag(version, {**tags, **said, VERDICT: told.verdict})
        _tag_run(registry, run.info.run_id, told, version)
        if told.verdict == "promote":
            still()
            registry.crown(version)


def _few(figures: Mapping[str, Any]) -> str:
    """As JSON, as many sets as a tag holds."""
    kept = dict(figures)
    while len(json.dumps(kept)) > LONGEST:
        kept.popitem()
    return json.dumps(kept)


def _tag_run(registry: Registry, run: str, told: Promotion, version: str) -> None:
    said = {
        "registry.version": f"models:/{registry.name}/{version}",
        VERDICT: told.verdict,
        WHY: told.reasons[:LONGEST],
    }
    for key, value in said.items():
        registry.connection.client.set_tag(run, key, value)
