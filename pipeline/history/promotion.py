"""What a promotion decided, for people and for programs."""

import html
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.artifacts import write_json, write_text
from pipeline.registry.gates import Gate, Verdict
from pipeline.reporting import mermaid
from pipeline.reporting.comparison import METRICS, TARGET, interval, percent, points

if TYPE_CHECKING:  # which take torch with them, and that takes seconds
    from pipeline.evaluation.duel import Duel
    from pipeline.history.drifted import Moved


SHOWN_AS = {
    "&": "&amp;", "<": "&lt;", "\\": "&#92;", "|": "\\|", "`": "&#96;", "](": "]&#40;",
}  # fmt: skip
"""What Markdown would read, and how it is shown instead, in the order in which it is replaced."""

CHARTED = 4
"""Sets in a chart: with more, the names below it run into each other."""


@dataclass
class Promotion:
    """What was decided, and why.

    Attributes:
        challenger: the version it has in the registry; None: it was not registered (a dry run).
        champion: the version that it was measured against; None: there was none, so its base model.
        why: of `nothing new`, in words.
        drift: the data of now against the champion's.
        notes: what a reader has to know of the figures.
    """

    verdict: Verdict
    model: str
    run: str
    challenger: str | None
    champion: str | None
    dry: bool
    why: str = ""
    gates: list[Gate] = field(default_factory=list)
    found: "Duel | None" = None
    drift: "list[Moved]" = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> str:
        """Why, in a line."""
        if self.why:
            return self.why
        failed = [f"{g.name}: {g.found}, asked: {g.asked}" for g in self.gates if not g.passed]
        return "; ".join(failed) or "all gates passed"

    @property
    def figures(self) -> dict[str, Any]:
        """The main figure of each set, as shares: champion, challenger, gain and its interval."""
        if self.found is None:
            return {}
        mains = {name: asdict(self.found.main(name)) for name in self.found.metric}
        return {
            name: {"metric": self.found.metric[name]} | {k: round(v, 4) for k, v in main.items()}
            for name, main in mains.items()
        }


def written(root: Path, told: Promotion) -> Path:
    """Write the report; its file. The same as JSON lies beside it."""
    file = root / paths.WORK / "promotion.md"
    write_text(file, as_markdown(told))
    write_json(file.with_suffix(".json"), asdict(told) | {"why": told.reasons})
    return file


def as_markdown(told: Promotion) -> str:
    """The verdict, the gates, and every figure of both models."""
    dry = ", a dry run: the registry is as it was" if told.dry else ""
    lines = [f"# {told.verdict}: {told.model}{dry}", "", f"- run {told.run}"]
    if told.challenger:
        lines.append(f"- the challenger is version {told.challenger}")
    if told.why:
        lines.append(f"- {cell(told.why)}")
    if told.found is not None:
        against = f"version {told.champion}" if told.champion else "its base model: no champion yet"
        lines.append(f"- measured against {against}")
    lines += [f"- {cell(note)}" for note in told.notes]
    return "\n".join([*lines, *tables(told)]) + "\n"


def tables(told: Promotion) -> list[str]:
    """Gates, figures, drift, as tables of Markdown."""
    lines = []
    if told.gates:
        lines += ["", "| gate | found | asked | |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {cell(g.name)} | {cell(g.found)} | {g.asked} | "
            f"{'passed' if g.passed else '**not passed**'} |"
            for g in told.gates
        ]
    if told.found is not None:
        former = "champion" if told.champion else "base model"
        lines += ["", f"| set | measure | {former} | challenger | gain in points |",
                  "| --- | --- | --- | --- | --- |"]  # fmt: skip
        lines += [
            f"| {cell(name)} | {METRICS[metric]} | {percent(one.champion)} | "
            f"{percent(one.challenger)} | {points(one.gain)} {interval(one.low, one.high)} |"
            for name, outcomes in told.found.outcomes.items()
            for metric, one in outcomes.items()
            if metric in told.found.metric.values() and "rank" not in metric
        ]
    if told.drift:
        lines += ["", "| drift from the champion's data | found | threshold |",
                  "| --- | --- | --- |"]  # fmt: skip
        lines += [f"| {one.name} | {_of(one)} | {_limit(one.warn)} |" for one in told.drift]
    return lines


def cell(text: str) -> str:
    """A text of the user's data as a cell of a Markdown table, shown as it is.

    It is no link or picture, and as `unaddressed` has it.
    """
    text = unaddressed(text)
    for character, shown in SHOWN_AS.items():
        text = text.replace(character, shown)
    return " ".join(text.split())


def plain(page: str) -> str:
    """A page of Markdown for a terminal, which draws none."""
    return html.unescape(page).replace("\\|", "|")


def unaddressed(text: str) -> str:
    """A text that, as a comment or a commit's message, calls nobody (@team) and closes no issue
    (#12).
    """
    return re.sub(r"(?<=[@#])(?=\w)", "\u200b", text)


def chart(told: Promotion) -> list[str]:
    """Champion and challenger by set as a Mermaid chart, which GitHub and GitLab draw."""
    if told.found is None:
        return []
    sides = [f"v{told.champion}" if told.champion else "base", _version(told)]
    mains = {name: told.found.main(name) for name in list(told.found.outcomes)[:CHARTED]}
    measures = {METRICS[told.found.metric[name]] for name in mains}
    bars = {
        f"{_plain(name)}, {side}": share
        for name, one in mains.items()
        for side, share in zip(sides, (one.champion, one.challenger), strict=True)
    }
    measure = measures.pop() if len(measures) == 1 else "main figure"
    return mermaid.chart(
        "Champion and challenger", list(bars), measure=f"{measure}, %", bars=list(bars.values())
    )


def _version(told: Promotion) -> str:
    return f"v{told.challenger}" if told.challenger else "challenger"


def _plain(name: str) -> str:
    """A set's name without what Mermaid reads."""
    kept = "".join(c if c.isalnum() or c in " -_." else " " for c in name)
    short = " ".join(kept.split())
    return "test pictures" if name == TARGET else short[:13] + ("…" if len(short) > 13 else "")


def _of(one: "Moved") -> str:
    if one.value is None:
        return f"not measured: {cell(one.why)}" if one.why else "not measured"
    return f"**{one.value:.2f}**" if one.above else f"{one.value:.2f}"


def _limit(warn: float | None) -> str:
    return "none" if warn is None else f"{warn:g}"
