"""`cliptune diff RUN RUN`: in what two recorded runs differ, the most telling first.

Code, params, data, environment, metrics: each cause before its effect. Data are compared by
content: a picture is its hash, so a renamed file is no difference and another file of the same name
is. Where both runs' predictions are kept, their models are compared on the test pictures that both
have, with a paired bootstrap interval: the runs' own intervals say nothing of the difference.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline import paths
from pipeline.history.diff_data import data_section
from pipeline.history.diff_metrics import metrics_section
from pipeline.history.kept import SHOWN, Section, graph_of, more
from pipeline.history.report import environment_differences
from pipeline.lineage_patch import path_of
from pipeline.tracking_records import Record, read_record

SECTIONS = ("code", "params", "data", "environment", "metrics")


@dataclass
class Difference:
    """Two runs, and by section the lines that tell how they differ; none: they don't.

    `facts` holds the same for programs.
    """

    names: tuple[str, str]
    lines: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def diff(root: Path, one: str, other: str) -> Difference:
    """Compare two runs of the store; raises TrackingError as `read_record` does."""
    work = root / paths.WORK
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work) as folder:
        _, first = read_record(root, one, Path(folder, "one"))
        _, second = read_record(root, other, Path(folder, "other"))
        found = Difference((_called(first), _called(second)))
        graphs = graph_of(first), graph_of(second)
        for section, (lines, facts) in {
            "code": _code(root, first, second),
            "params": _params(first, second),
            "data": data_section(root, (first, second), graphs),
            "environment": _environment(first, second),
            "metrics": metrics_section(root, (first, second), graphs),
        }.items():
            found.lines[section] = lines
            found.facts[section] = facts
    return found


def as_text(found: Difference) -> str:
    """The sections that differ, in their order; then those that do not."""
    shown = [f"{found.names[0]} → {found.names[1]}"]
    for section in SECTIONS:
        lines = found.lines[section]
        if lines:
            shown += ["", section, *(f"  {line}" for line in lines)]
    same = [section for section in SECTIONS if not found.lines[section]]
    if same:
        shown += ["", f"the same: {', '.join(same)}"]
    return "\n".join(shown)


def _called(record: Record) -> str:
    return f"{record.name} ({record.run_id[:8]})"


def _code(root: Path, one: Record, other: Record) -> Section:
    lines: list[str] = []
    facts: dict[str, Any] = {}
    if one.commit != other.commit:
        facts["commits"] = [one.commit, other.commit]
        lines.append(f"commit {one.commit[:10] or 'none'} → {other.commit[:10] or 'none'}")
        lines += _between(root, one.commit, other.commit)
    if one.patch != other.patch:
        mine, theirs = _patched(one.patch), _patched(other.patch)
        names = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
        facts["uncommitted"] = names
        lines += [f"uncommitted: {_how(name, mine, theirs)}" for name in names[:SHOWN]]
        lines += more(names)
    return lines, facts


def _between(root: Path, one: str, other: str) -> list[str]:
    """Which files differ between two commits; commits that are not here are told."""
    own = [".", ":(exclude,glob)**/dvc.lock"]  # its hashes are told as data
    command = ["git", "-C", str(root), "diff", "--stat=80", one, other, "--", *own]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return ["  one of them is not in this clone: `git fetch` brings it"]
    stat = [line.rstrip() for line in done.stdout.splitlines()]
    return [f" {line}" for line in stat[:SHOWN]] + more(stat)


def _patched(patch: bytes) -> dict[str, bytes]:
    """File → its part of a patch."""
    parts = re.split(rb"(?m)^(?=diff --git )", patch)
    return {str(path_of(part)): part for part in parts if part}


def _how(name: str, mine: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> str:
    if name not in theirs:
        return f"{name} in the first alone"
    if name not in mine:
        return f"{name} in the second alone"
    return f"{name}, changed in another way"


def _params(one: Record, other: Record) -> Section:
    changed = {
        key: [one.params.get(key), other.params.get(key)]
        for key in sorted({*one.params, *other.params})
        if one.params.get(key) != other.params.get(key)
    }
    lines = [f"{key}: {_or_none(a)} → {_or_none(b)}" for key, (a, b) in changed.items()]
    return lines[: 4 * SHOWN] + more(lines, 4 * SHOWN), changed


def _or_none(text: str | None) -> str:
    return "not there" if text is None else text if len(text) <= 60 else f"{text[:59]}…"


def _environment(one: Record, other: Record) -> Section:
    machine = [
        f"{key}: {one.environment.get(key)} → {other.environment.get(key)}"
        for key in ("cpu", "cpus", "gpus", "platform")
        if one.environment.get(key) != other.environment.get(key)
    ]
    lines = [*environment_differences(one.environment, other.environment), *machine]
    return lines[: 2 * SHOWN] + more(lines, 2 * SHOWN), lines
