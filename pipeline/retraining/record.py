"""metrics/history.csv: a line for each model that was judged, in git, to be read and plotted."""

import csv
import io
import json
from collections.abc import Mapping
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
        said = {"date": tags[ROLLED_BACK], "verdict": "rolled back", "version": version}
        said["why"] = tags.get(ROLLED_BACK_WHY, "")
        _add(root, dict.fromkeys(COLUMNS, "") | said)


def _add(root: Path, row: Mapping[str, Any]) -> None:
    known = _text(root)
    if any((one["version"], one["date"]) == (row["version"], row["date"]) for one in _rows(known)):
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not known:
        writer.writeheader()
    elif not known.endswith("\n"):  # somebody's editor
        known += "\n"
    writer.writerow(row)
    write_text(root / paths.RETRAINED, known + text.getvalue())


def figures(tags: Mapping[str, str]) -> str:
    """The main figure of each set when a version was judged, by its tags; empty: it never was."""
    found = json.loads(tags.get(FIGURES, "{}"))
    if not found or AT not in tags:
        return ""
    told = [
        f"{METRICS.get(one['metric'], one['metric'])} {percent(one['challenger'])} on "
        f"{'test pictures' if name == TARGET else name}"
        for name, one in list(found.items())[:SETS]
    ]
    more = [f"and {len(found) - SETS} sets more"] if len(found) > SETS else []
    return f"{', '.join([*told, *more])}; measured on {tags[AT][:10]}"


def chart(root: Path) -> list[str]:
    """The last verdicts as a Mermaid chart; nothing where there are fewer than two."""
    rows = [row for row in _rows(_text(root)) if row["challenger"]][-SHOWN:]
    if len(rows) < 2:
        return []
    return mermaid.chart(
        "Challengers (bars) and their champions (line)",
        [f"v{row['version']}, {row['date'][5:10]}" for row in rows],
        measure="%",
        bars=[float(row["challenger"]) for row in rows],
        line=[float(row["champion"]) for row in rows],
    )


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
