"""In what the metrics of two runs differ, and whether their models do on common pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.evaluation.bootstrap import paired_gain_of_hits
from pipeline.history.kept import SHOWN, Section, digest, kept, more
from pipeline.lineage_dvc import Graph
from pipeline.reporting.comparison import METRICS, RANKS, interval, percent, points
from pipeline.tracking_records import Record

RESAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0
"""Of the bootstrap over the test pictures that both runs have."""


def metrics_section(
    root: Path, records: tuple[Record, Record], graphs: tuple[Graph, Graph]
) -> Section:
    """The final model's metrics, the difference on common pictures, and other stages' numbers."""
    one, other = (record.metrics for record in records)
    lines: list[str] = []
    changed = {
        key: [one.get(key), other.get(key)]
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key) and not key.endswith("/seconds")
    }
    for prefix in sorted({key.partition("/final/")[0] for key in changed if "/final/" in key},
                         key=lambda name: (name != "evaluate/target", name)):  # fmt: skip
        for metric, title in METRICS.items():
            key = f"{prefix}/final/{metric}"
            if key in changed:
                name = f"{prefix.rpartition('/')[2]}: {title}"
                lines.append(f"{name:<44}{_with_gain(one, prefix, metric)} → "
                             f"{_with_gain(other, prefix, metric)}")  # fmt: skip
    predictions = [digest(graph, paths.PREDICTIONS) for graph in graphs]
    facts: dict[str, Any] = {"changed": changed}
    if all(predictions) and predictions[0] != predictions[1]:
        mine, theirs = (
            kept(root, record, graph, paths.PREDICTIONS)
            for record, graph in zip(records, graphs, strict=True)
        )
        if mine is not None and theirs is not None:
            facts["paired"] = _paired(mine, theirs)
            lines = [*map(_told, facts["paired"]), *lines]
    rest = [key for key in changed if "/final/" not in key and not key.startswith("evaluate/")]
    lines += [f"{key}: {_number(one.get(key))} → {_number(other.get(key))}"
              for key in rest[:SHOWN]]  # fmt: skip
    if changed and not lines:
        key = next(iter(changed))
        told = f"{key}: {_number(one.get(key))} → {_number(other.get(key))}"
        lines = [f"{len(changed):,} figures beside the models' own, such as {told}"]
    return lines + more(rest), facts


def _with_gain(metrics: Mapping[str, float], prefix: str, metric: str) -> str:
    """`84.0 % (+2.1 [0.4, 3.9] over its base)`."""
    value = metrics.get(f"{prefix}/final/{metric}")
    if value is None:
        return "not there"
    if metric in RANKS:
        return f"{value:g}"
    gain = [metrics.get(f"{prefix}/gain/{metric}/{part}") for part in ("value", "low", "high")]
    if None in gain:
        return percent(value)
    middle, low, high = (float(part or 0) for part in gain)
    return f"{percent(value)} ({points(middle)} {interval(low, high)} over its base)"


def _paired(mine: Mapping[str, Path], theirs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Of each set that both were tested on: the second model over the first, on common pictures."""
    found = []
    names = sorted(mine.keys() & theirs.keys(), key=lambda name: (name != "target.parquet", name))
    for name in names:
        frames = [pd.read_parquet(files[name]) for files in (mine, theirs)]
        common = frames[0].merge(frames[1], on="image_id", suffixes=("_one", "_other"))
        for what, hits in _hits(common).items():
            found.append({"set": Path(name).stem, "metric": what, **_gain(*hits)})
    return found


def _hits(common: pd.DataFrame) -> dict[str, tuple[Any, Any]]:
    """Metric → of each common picture, whether either model has it right: 1.0 or 0.0."""
    labelled = common.dropna(subset=["label_one", "label_other"])
    labelled = labelled[labelled["label_one"] == labelled["label_other"]]
    searched = common.dropna(subset=["final_rank_i2t_one", "final_rank_i2t_other"])
    found = {}
    if len(labelled):
        found["top1"] = tuple(
            (labelled[f"final_label_{side}"] == labelled["label_one"]).to_numpy(float)
            for side in ("one", "other")
        )
    if len(searched):
        found["image_to_text_r1"] = tuple(
            (searched[f"final_rank_i2t_{side}"] <= 1).to_numpy(float) for side in ("one", "other")
        )
    return found  # type: ignore[return-value]


def _gain(one: Any, other: Any) -> dict[str, float]:
    gain = paired_gain_of_hits(one, other, resamples=RESAMPLES, confidence=CONFIDENCE, seed=SEED)
    return {"pictures": len(one), **gain}


def _told(gain: Mapping[str, Any]) -> str:
    shown = f"{points(gain['value'])} {interval(gain['low'], gain['high'])}"
    verdict = ", no difference shown" if gain["low"] <= 0 <= gain["high"] else ""
    on = f"on the {gain['pictures']:,} test pictures of both"
    return f"{gain['set']}: {METRICS[gain['metric']]}: {shown} points {on}{verdict}"


def _number(value: float | None) -> str:
    return "not there" if value is None else f"{value:g}"
