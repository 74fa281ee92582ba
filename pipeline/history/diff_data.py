"""In what the data of two runs differ: sources by their hash, pictures by their content."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.history.kept import SHOWN, Section, digest, kept, more
from pipeline.lineage_dvc import Graph
from pipeline.registry.reproduce import hashes
from pipeline.tracking_records import Record


def data_section(
    root: Path, records: tuple[Record, Record], graphs: tuple[Graph, Graph]
) -> Section:
    """Sources, the first output that differs, and pairs."""
    lines: list[str] = []
    facts: dict[str, Any] = {}
    read = [_source_digests(graph) for graph in graphs]
    sources = sorted(
        path for path in {*read[0], *read[1]} if read[0].get(path) != read[1].get(path)
    )
    if sources:
        facts["sources"] = {path: [digests.get(path) for digests in read] for path in sources}
        lines += [f"source {path} has other content" for path in sources[:SHOWN]] + more(sources)
    made = [hashes(graph) for graph in graphs]
    other = [key for key in made[0] if made[0][key] != made[1].get(key)]
    told = (paths.METRICS.as_posix(), paths.PLOTS.as_posix())  # these only tell of the others
    first = next((key for key in other if not key[1].startswith(told)), next(iter(other), None))
    if first is not None:
        facts["first_output"] = list(first)
        lines.append(f"the first output that differs is {first[1]}, of the stage {first[0]}")
    clean = [digest(graph, paths.CLEAN) for graph in graphs]
    if clean[0] != clean[1] and all(clean):
        mine, theirs = (
            kept(root, record, graph, paths.CLEAN)
            for record, graph in zip(records, graphs, strict=True)
        )
        if mine is None or theirs is None:
            lines.append(f"{paths.CLEAN} of one of them is in no cache and no remote")
        else:
            pairs, facts["pairs"] = compare_pairs(_pairs(mine), _pairs(theirs))
            lines += pairs
    return lines, facts


def _source_digests(graph: Graph) -> dict[str, str]:
    """The hash of each source, as DVC had it when the stages that read it had run."""
    known = dict(graph.added)
    for stage in graph.stages.values():
        known |= {p: digest for p, digest in stage.dep_digests.items() if p in graph.sources}
    return known


def _pairs(files: Mapping[str, Path]) -> pd.DataFrame:
    columns = ["image_id", "image", "caption", "label", "split"]
    return pd.read_parquet(files["pairs.parquet"], columns=columns)


def compare_pairs(one: pd.DataFrame, other: pd.DataFrame) -> tuple[list[str], dict[str, Any]]:
    """Pictures added, removed, with other captions or label, and in another part of the split.

    Both have image_id, image, caption, label and split.
    """
    sides = [_by_image(frame) for frame in (one, other)]
    added, removed = sides[1].keys() - sides[0].keys(), sides[0].keys() - sides[1].keys()
    both = sorted(sides[0].keys() & sides[1].keys())
    captions = [i for i in both if sides[0][i][1] != sides[1][i][1]]
    labels = [i for i in both if sides[0][i][2] != sides[1][i][2]]
    moved = [(i, sides[0][i][3], sides[1][i][3]) for i in both if sides[0][i][3] != sides[1][i][3]]
    lines = [f"pairs {len(one):,} → {len(other):,}, pictures {len(sides[0]):,} → {len(sides[1]):,}"]
    for count, what, ids, names in (
        (len(added), "pictures added", added, sides[1]),
        (len(removed), "pictures removed", removed, sides[0]),
        (len(captions), "pictures with other captions", captions, sides[1]),
        (len(labels), "pictures with another label", labels, sides[1]),
    ):
        if count:
            examples = ", ".join(sorted(names[i][0] for i in ids)[:3])
            lines.append(f"{count:,} {what}, such as {examples}")
    ways = Counter((before, after) for _, before, after in moved)
    for (before, after), count in sorted(ways.items()):
        lines.append(f"{count:,} pictures moved from {before} to {after}")
    counts = {
        "pairs": [len(one), len(other)],
        "pictures": [len(sides[0]), len(sides[1])],
        "added": len(added),
        "removed": len(removed),
        "other_captions": len(captions),
        "other_label": len(labels),
        "moved": {f"{before} → {after}": count for (before, after), count in ways.items()},
    }
    return lines, counts


def _by_image(pairs: pd.DataFrame) -> dict[str, tuple[str, frozenset[str], str, str]]:
    """Image id → name, captions, label, split."""
    found: dict[str, tuple[str, frozenset[str], str, str]] = {}
    for image_id, group in pairs.groupby("image_id", sort=False):
        first = group.iloc[0]
        texts = frozenset(group["caption"])
        found[str(image_id)] = (
            str(first["image"]),
            texts,
            str(first["label"]),
            str(first["split"]),
        )
    return found
