"""Runs that differ in nothing but their seed, as mean and spread: `cliptune seeds`.

Another seed is another split, other batches and another order, so the spread over seeds holds what
the interval of one run does not: how much of a result is luck of the draw.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import TrackingError
from pipeline.evaluation.headline import HEADLINES
from pipeline.reporting.comparison import METRICS, points
from pipeline.tracking_runs import search
from pipeline.tracking_store import reach

SEED = "seed"
KINDS = ("base", "final", "gain")


@dataclass(frozen=True)
class Run:
    """A complete run of the pipeline.

    Attributes:
        name, commit: as MLflow shows them.
        params, metrics: by the names under which MLflow has them.
    """

    name: str
    commit: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def completed(root: Path) -> list[Run]:
    """The complete runs of the pipeline in the store of the work tree at `root`, newest first.

    Raises TrackingError where the store does not answer, and where there is no such run.
    """
    _, found = reach(
        root, lambda store: search(store, "tags.`pipeline.complete` = 'true'", role="pipeline")
    )
    if not found:
        raise TrackingError("no complete run yet: `dvc repro` makes one")
    return [
        Run(
            run.info.run_name,
            run.data.tags.get("mlflow.source.git.commit", ""),
            run.data.params,
            run.data.metrics,
        )
        for run in found
    ]


def alike(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups of two or more: one commit, params equal but for the seed; of each seed the newest."""
    groups: dict[tuple[object, ...], dict[str, Run]] = defaultdict(dict)
    for run in runs:
        rest = frozenset((key, value) for key, value in run.params.items() if key != SEED)
        groups[run.commit, rest].setdefault(run.params.get(SEED, ""), run)
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def told(group: Sequence[Run]) -> str:
    """Mean ± standard deviation over the seeds of each set's main metrics."""
    seeds = sorted((run.params[SEED] for run in group), key=lambda seed: (len(seed), seed))
    commit = f" of commit {group[0].commit[:7]}" if group[0].commit else ""
    lines = [
        f"{len(group)} seeds ({', '.join(seeds)}){commit}: mean ± standard deviation",
        f"{'':<34}{'base %':>14}{'final %':>14}{'gain in points':>18}",
    ]
    for prefix in sorted(_sets(group[0]), key=lambda name: (name != "evaluate/target", name)):
        for metric in HEADLINES:
            figures = [_spread(group, f"{prefix}/{kind}/{metric}", kind) for kind in KINDS]
            if all(figures):
                name = f"{prefix.rpartition('/')[2]}: {METRICS[metric]}"
                lines.append(f"{name:<34}{figures[0]:>14}{figures[1]:>14}{figures[2]:>18}")
    return "\n".join(lines)


def _sets(run: Run) -> set[str]:
    return {key.partition("/base/")[0] for key in run.metrics if "/base/" in key}


def _spread(group: Sequence[Run], key: str, kind: str) -> str:
    """Empty where a run lacks the metric."""
    name = f"{key}/value" if kind == "gain" else key
    shares = [run.metrics[name] for run in group if name in run.metrics]
    if len(shares) < len(group):
        return ""
    mean, spread = statistics.fmean(shares), statistics.stdev(shares)
    shown = points(mean) if kind == "gain" else f"{100 * mean:.1f}"
    return f"{shown} ± {100 * spread:.1f}"
