"""What a retraining did, for people and for programs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline import paths
from pipeline.artifacts import read_json, write_json, write_text
from pipeline.history.promotion import Promotion, cell, chart, tables
from pipeline.retraining import record
from pipeline.retraining.news import News

Verdict = Literal[
    "promote", "hold", "nothing new", "too little new", "not judged", "failed", "stopped"
]
WELL: tuple[Verdict, ...] = ("promote", "hold", "nothing new", "too little new")
"""Verdicts after which nobody has to do anything."""


@dataclass
class Week:
    """A retraining as it goes.

    Attributes:
        verdict: `failed` until it is known.
        why: in a line.
        points: of a command that failed: what it was for, and what it said line by line.
        seconds: what each step took, in order.
        validated: whether what `validate` found is of now.
        warnings: of the stages that ran.
        changed: what made the pipeline run; empty: nothing did.
        news: what is new in the data; None: not known, or nothing.
        serves: the version that is champion at the end; None: none is. Empty: not known.
        figures: of the version that serves, where no model was measured now.
        place: where the run of the pipeline is found; empty: there is none.
        published: what became of the commits.
        left: the folder with what a failed stage had found.
    """

    dry: bool
    verdict: Verdict = "failed"
    why: str = ""
    points: list[str] = field(default_factory=list)
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d}")
    seconds: dict[str, float] = field(default_factory=dict)
    validated: bool = False
    warnings: list[str] = field(default_factory=list)
    changed: str = ""
    news: News | None = None
    promotion: Promotion | None = None
    model: str = ""
    serves: str | None = ""
    figures: str = ""
    place: str = ""
    commit: str = ""
    published: str = ""
    left: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether nobody has to do anything."""
        return self.verdict in WELL

    @property
    def title(self) -> str:
        """In a few words."""
        dry = " (a dry run)" if self.dry else ""
        return f"Retraining of {self.date}: {self.verdict}{dry}"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step under its name."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 1)


def summary(root: Path) -> Path:
    """Where the summary is."""
    return root / paths.RETRAINING / "summary.md"


def forget(root: Path) -> None:
    """Delete the last summary: after a kill nobody must take it for that of now."""
    for file in (summary(root), summary(root).with_suffix(".json")):
        file.unlink(missing_ok=True)


def written(root: Path, week: Week) -> Path:
    """Write the summary; its file. The same as JSON lies beside it."""
    file = summary(root)
    rejected = _rejected(root) if week.validated else {}
    history = record.chart(root) if week.promotion is not None else []
    write_text(file, as_markdown(week, rejected=rejected, history=history))
    write_json(file.with_suffix(".json"), asdict(week) | {"well": week.well})
    return file


def as_markdown(week: Week, *, rejected: Mapping[str, int], history: Sequence[str] = ()) -> str:
    """A page that is read in a minute: who serves and why, then the figures.

    `rejected`: rows by reason; `history`: a chart of earlier verdicts.
    """
    lines = [f"# {week.title}", "", *_first(week)]
    lines += [f"\n{cell(note)}" for note in week.notes]  # what somebody may have to do
    lines += ["", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {text} |" for name, text in _facts(week, rejected).items() if text]
    of_verdict = week.promotion.notes if week.promotion is not None else []
    lines += [f"\n{cell(note)}" for note in of_verdict]
    if week.promotion is not None:
        lines += [*chart(week.promotion), *tables(week.promotion)]
    lines += history
    lines += ["", "| step | seconds |", "| --- | --- |"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in week.seconds.items()]
    lines.append(f"| all | {sum(week.seconds.values()):.1f} |")
    return "\n".join(lines) + "\n"


def _first(week: Week) -> list[str]:
    """The one sentence, and why; as a list where a command failed for more than one reason."""
    serves = {"": "Who serves is not known", None: "No model serves yet"}.get(
        week.serves, f"Version {week.serves} of {week.model} serves"
    )
    told = week.promotion
    if week.serves and told and told.verdict == "promote" and week.serves == told.challenger:
        former = told.champion  # also where something failed after that, such as the push
        serves += f" from now on, {f'instead of version {former}' if former else 'as the first'}"
    elif week.serves:
        serves += ", as before"
    why, *points = week.points if len(week.points) > 2 else [week.why]
    listed = [f"{'  ' * point.startswith(' ')}- {cell(point)}" for point in points]
    return [f"**{serves}.** {cell(why)}", *([""] if listed else []), *listed]


def _facts(week: Week, rejected: Mapping[str, int]) -> dict[str, str]:
    told = week.promotion
    judged = "judged before" if told and told.verdict == "nothing new" else "judged"
    gone = ", ".join(f"{reason} {count:,}" for reason, count in sorted(rejected.items()))
    return {
        "who serves": cell(f"version {week.serves}: {week.figures}") if week.figures else "",
        judged: f"version {told.challenger}" if told and told.challenger else "",
        "changed": cell(week.changed),
        "data": _told(week.news) if week.news else "",
        "rows rejected, of all data": gone,
        "warnings": "<br>".join(cell(warning) for warning in week.warnings),
        "run": week.place,
        "commit": week.commit,
        "published": week.published,
        "what the failed stage found": f"`{week.left}`" if week.left else "",
    }


def _told(news: News) -> str:
    if news.rejected is None or news.set_aside is None:
        gone = f"{news.gone:,} gone or set aside" if news.gone else "0 gone"
    else:
        gone = f"{news.gone - news.rejected - news.set_aside:,} gone"
        gone += f", {news.rejected:,} rejected now" if news.rejected else ""
        gone += f", {news.set_aside:,} set aside now" if news.set_aside else ""
    return (
        f"{news.pictures:,} pictures: {news.added:,} new, {gone}, "
        f"{news.changed:,} with another caption or label"
    )


def _rejected(root: Path) -> dict[str, int]:
    """Rows that `validate` rejected, by reason, where it has run."""
    file = root / paths.metrics_file("validate")
    found: Any = read_json(file) if file.is_file() else {}
    return dict(found.get("rejected", {}))
