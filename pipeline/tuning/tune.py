"""`cliptune tune`: params searched by experiments of DVC, judged on the validation split.

A trial is `dvc exp run finetune` with other params: what comes before it is not run again, and
`evaluate`, which looks at the test split, is not run at all. The best is then run to the end, where
DVC takes its training from the cache, and is an experiment as any other, to apply or not.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import paths
from pipeline.artifacts import read_json, sha256_of, sha256_text
from pipeline.errors import DataError, TrainingError
from pipeline.lineage_dvc import DvcStage, Graph, read_graph
from pipeline.lineage_secrets import redact
from pipeline.params import Params
from pipeline.tracking_session import stoppable
from pipeline.tracking_store import Connection
from pipeline.tuning import space
from pipeline.tuning.study import Study, Trial, opened
from pipeline.tuning.tagging import store, tag
from pipeline.tuning.told import Choice, Sweep, duration, listed
from pipeline.tuning.tree import Tree, clone, experiments

STAGE = "finetune"
GIVE_UP = 3
"""So many failures, and nothing but failures, are no matter of the params that are tried."""


def tune(root: Path, params: Params, *, limit: int) -> Sweep:
    """Run trials until there are `limit`, then the best to its end.

    A sweep that was killed goes on, and one that is done takes further trials; other params, code
    or data begin another. Raises ConfigError for a space that can't be searched and without Optuna,
    TrainingError where every trial failed, DataError where another sweep is under way here.
    """
    space.check(params)
    with _alone(root), stoppable(None):
        name = study_name(params, read_graph(root), root)
        with opened(root, name, params) as study:
            connection = store(root)
            if _is_open(study, limit):
                with clone(root, STAGE) as tree:
                    _run_trials(study, tree, connection, params, name=name, limit=limit)
            best = study.best()
            if best is None:
                raise _all_failed(study)
            now = space.present(params)
            found = partial(Sweep, name, params.tune.metric, study.trials(), now, best)
            if best.values == now:
                return found(None)
            experiment = f"tune-best-{name}-{best.number:02}"
            if not experiments(root, experiment):
                _say(f"trial {best.number} is the best: it is run to the end as {experiment}")
                with clone(root, STAGE) as tree:
                    _complete(tree, experiment, best)
                    study.keep_choice(best, _choice(tree.path) or {})
                    tags = {"study": name, "trial": f"{best.number}", "value": f"{best.value}"}
                    tag(connection, experiment, tree.path / paths.receipt_file("pipeline"), tags)
            return found(experiment, (study.choice(best), _choice(root)))


def study_name(params: Params, graph: Graph, root: Path) -> str:
    """Six digits that are others when a trial might give another figure.

    They stand for params, but for how many trials and what no stage reads, and for the code and
    data of the stages up to finetune; of folders and large data it is the hash that dvc.lock has.
    """
    left_out: dict[str, Any] = {"promote": True, "retrain": True, "tune": {"trials"}}
    content = params.model_dump(by_alias=True, exclude=left_out)
    lines = [f"{content}", *(f"{path} {digest}" for path, digest in _inputs(graph, root))]
    return sha256_text("\n".join(lines))[:6]


def _inputs(graph: Graph, root: Path) -> Iterator[tuple[str, str]]:
    """What the stages up to finetune read and none of them writes, with its hash."""
    names, new = set[str](), {STAGE}
    while new:
        names |= new
        new = {above for stage in _called(graph, new) for above in graph.upstream(stage)} - names
    found: dict[str, str] = {}
    for stage in _called(graph, names):
        for path in stage.deps:
            known = stage.dep_digests.get(path, "")
            found[path] = sha256_of(root / path) if (root / path).is_file() else known
    return ((path, found[path]) for path in sorted(set(found) - set(graph.outs)))


def _called(graph: Graph, names: set[str]) -> list[DvcStage]:
    return [stage for name in sorted(names) if (stage := graph.find(name)) is not None]


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    work = root / paths.WORK / "tune"
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout:
        raise DataError(f"another `cliptune tune` works in {work}: wait for its end") from None


def _is_open(study: Study, limit: int) -> bool:
    trials = study.trials()
    return len(trials) < limit or any(trial.state == "open" for trial in trials)


def _run_trials(
    study: Study,
    tree: Tree,
    connection: Connection | None,
    params: Params,
    *,
    name: str,
    limit: int,
) -> None:
    metric = params.tune.metric
    while (trial := study.next(limit)) is not None:
        experiment = f"tune-{name}-{trial.number:02}"
        log = tree.root / paths.WORK / "tune" / name / f"{trial.number:02}.log"
        _say(f"trial {trial.number} of {limit}: {listed(trial.values)} ({log})")
        began = time.monotonic()
        code = tree.run(experiment, [STAGE, *space.overrides(trial.values)], log)
        seconds = time.monotonic() - began
        tags = {"study": name, "trial": f"{trial.number}", "metric": metric}
        if code:
            why = reason(log)
            study.failed(trial, why, seconds=seconds)
            tag(connection, experiment, Path(), tags | {"failed": why})
            _say(f"  failed: {why}")
            if study.best() is None and len(study.trials()) >= GIVE_UP:
                raise _all_failed(study)
            continue
        value = float(read_json(tree.path / paths.metrics_file(STAGE))[metric])
        study.done(trial, value, seconds=seconds)
        tag(
            connection,
            experiment,
            tree.path / paths.receipt_file(STAGE),
            tags | {"value": f"{value}"},
        )
        _say(f"  {metric} {value:.4f} in {duration(seconds)}")


def _complete(tree: Tree, experiment: str, best: Trial) -> None:
    log = tree.root / paths.WORK / "tune" / f"{experiment}.log"
    if tree.run(experiment, space.overrides(best.values), log):
        raise TrainingError(
            f"trial {best.number} is the best, but run to the end it failed: {reason(log)}. What "
            f"it said is kept in {log}"
        )


def _choice(root: Path) -> Choice | None:
    """What the last `evaluate` in a tree chose."""
    file = root / paths.metrics_file("evaluate")
    found: Choice | None = read_json(file).get("choice") if file.is_file() else None
    return found


def _all_failed(study: Study) -> TrainingError:
    last = study.trials()[-1]
    return TrainingError(
        f"all {len(study.trials())} trials failed; the last: {last.why}. What it said is kept in "
        f"{paths.WORK / 'tune'}"
    )


def reason(log: Path) -> str:
    """Why an execution failed: what the stage said, else what DVC did."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    for mark in ("error: ", "ERROR: "):
        said = [line.partition(mark)[2] for line in lines if line.startswith(mark)]
        if said:
            return redact(said[-1])[:1000]
    return redact(lines[-1])[:1000] if lines else "it said nothing"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
