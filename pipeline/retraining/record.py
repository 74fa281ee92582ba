"""metrics/history.csv: a line for each model that was judged, in git, to be read and plotted."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.artifacts import write_text
from pipeline.history.registry import (
    AGAINST,
    AT,
    FIGURES,
    ROLLED_BACK,
    ROLLED_BACK_WHY,
    VERDICT,
    WHY,
)
from pipeline.reporting import mermaid
from pipeline.reporting.comparison import METRICS, TARGET, percent

COLUMNS = (
    "date",
    "verdict",
    "version",
    "against",
    "metric",
    "champion",
    "challenger",
    "gain",
    "low",
    "high",
    "worst_general",
    "run",
    "why",
)

SHOWN = 8
"""Lines in the chart."""

SETS = 4
"""Sets in a line of figures."""


def recorded(root: Path, version: str, tags: Mapping[str, str]) -> None:
    """Add the line of a version by its tags in the registry; a line that is there is not repeated.

    A version that was never judged, such as one that was made champion by hand, has none.
    `worst_general` is the largest loss (or smallest gain) of a general set, as a share.
    """
    if VERDICT not in tags:
        return
    _add(root, _row(version, tags))
    if ROLLED_BACK in tags:
        _add(root, _rollback(version, tags))


def rolled_back(root: Path, tags_of: Callable[[str], Mapping[str, str]]) -> list[str]:
    """Add the lines of versions that served, by the history, and were rolled back since; in words.

    `tags_of`: a version's tags in the registry, asked of as few as can be.
    """
    told = []
    for version in _promoted(root):
        tags = tags_of(version)
        if ROLLED_BACK not in tags:
            break
        if not _add(root, _rollback(version, tags)):
            continue
        why = f": {tags[ROLLED_BACK_WHY]}" if tags.get(ROLLED_BACK_WHY) else ""
        told.append(f"Version {version} was rolled back on {tags[ROLLED_BACK][:10]}{why}.")
    return told


def _promoted(root: Path) -> list[str]:
    """The versions that the history has promoted and not rolled back, the last one first."""
    found: list[str] = []
    for row in _rows(_text(root)):
        if row["verdict"] == "promote":
            found.append(row["version"])
        elif row["verdict"] == "rolled back" and row["version"] in found:
            found.remove(row["version"])
    return found[::-1]


def _rollback(version: str, tags: Mapping[str, str]) -> dict[str, str]:
    said = {"date": tags[ROLLED_BACK], "verdict": "rolled back", "version": version}
    return dict.fromkeys(COLUMNS, "") | said | {"why": tags.get(ROLLED_BACK_WHY, "")}


def _add(root: Path, row: Mapping[str, Any]) -> bool:
    """Whether the line was not there yet."""
    known = _text(root)
    if any((one["version"], one["date"]) == (row["version"], row["date"]) for one in _rows(known)):
        return False
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not known:
        writer.writeheader()
    elif not known.endswith("\n"):  # somebody's editor
        known += "\n"
    writer.writerow(row)
    write_text(root / paths.RETRAINED, known + text.getvalue())
    return True


def figures(champion: Mapping[str, str], version: str, last: Mapping[str, str]) -> str:
    """The main figure of each set of who serves, when it was measured last; empty: it never was.

    By the tags of the champion and of the version that was judged last: where that was against it
    (`version`), they have the newer figures.
    """
    newer = last.get(AGAINST) == version and FIGURES in last
    tags, side = (last, "champion") if newer else (champion, "challenger")
    found = json.loads(tags.get(FIGURES, "{}"))
    if not found or AT not in tags:
        return ""
    told = [
        f"{METRICS.get(one['metric'], one['metric'])} {percent(one[side])} on "
        f"{'test pictures' if name == TARGET else name}"
        for name, one in list(found.items())[:SETS]
    ]
    more = [f"and {len(found) - SETS} sets more"] if len(found) > SETS else []
    return f"{', '.join([*told, *more])}; measured on {tags[AT][:10]}"


def chart(root: Path) -> list[str]:
    """The last verdicts as a Mermaid chart; nothing where there are fewer than two."""
    rows = [row for row in _rows(_text(root)) if _is_judged(row)][-SHOWN:]
    if len(rows) < 2:
        return []
    return mermaid.chart(
        "Challengers (bars) and their champions (line)",
        [f"v{row['version']}, {row['date'][5:10]}" for row in rows],
        measure="%",
        bars=[float(row["challenger"]) for row in rows],
        line=[float(row["champion"]) for row in rows],
    )


def _is_judged(row: Mapping[str, str]) -> bool:
    """Whether a line has the figures of both: people may edit the file."""
    try:
        return bool(row["version"] and row["date"] and float(row["challenger"]) >= 0
                    and float(row["champion"]) >= 0)  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return False


def _text(root: Path) -> str:
    file = root / paths.RETRAINED
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _row(version: str, tags: Mapping[str, str]) -> dict[str, Any]:
    figures = json.loads(tags.get(FIGURES, "{}"))
    target = figures.get(TARGET, {})
    general = [one["gain"] for name, one in figures.items() if name != TARGET]
    names = ("metric", "champion", "challenger", "gain", "low", "high")
    return {
        "date": tags[AT],
        "verdict": tags[VERDICT],
        "version": version,
        "against": tags.get(AGAINST, ""),
        **{name: target.get(name, "") for name in names},
        "worst_general": min(general, default=""),
        "run": tags["pipeline.run_id"],
        "why": tags[WHY],
    }
