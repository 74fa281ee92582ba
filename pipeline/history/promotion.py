"""What a promotion decided, for people and for programs."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import paths
from pipeline.artifacts import write_json, write_text
from pipeline.evaluation.duel import Duel
from pipeline.registry.gates import Gate, Verdict
from pipeline.reporting.comparison import METRICS, interval, percent, points


@dataclass
class Promotion:
    """What was decided, and why.

    Attributes:
        challenger: the version it has in the registry; None: it was not registered (a dry run).
        champion: the version that it was measured against; None: there was none, so its base model.
    """

    verdict: Verdict
    model: str
    run: str
    challenger: str | None
    champion: str | None
    gates: list[Gate]
    found: Duel | None
    dry: bool


def written(root: Path, told: Promotion) -> Path:
    """Write the report; its file. The same as JSON lies beside it."""
    file = root / paths.WORK / "promotion.md"
    write_text(file, as_markdown(told))
    write_json(file.with_suffix(".json"), asdict(told))
    return file


def as_markdown(told: Promotion) -> str:
    """The verdict, the gates, and every figure of both models."""
    dry = ", a dry run: the registry is as it was" if told.dry else ""
    against = f"version {told.champion}" if told.champion else "its base model: no champion yet"
    lines = [f"# {told.verdict}: {told.model}{dry}", "", f"- run {told.run}"]
    if told.challenger:
        lines.append(f"- the challenger is version {told.challenger}")
    if told.verdict == "nothing new":
        lines.append(f"- the model of the last run is the champion, version {told.champion}")
    else:
        lines.append(f"- measured against {against}")
    if told.gates:
        lines += ["", "| gate | found | asked | |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {g.name} | {g.found} | {g.asked} | {'passed' if g.passed else '**not passed**'} |"
            for g in told.gates
        ]
    if told.found is not None:
        lines += ["", "| set | measure | champion | challenger | gain in points |",
                  "| --- | --- | --- | --- | --- |"]  # fmt: skip
        for name, outcomes in told.found.outcomes.items():
            for metric, one in outcomes.items():
                if metric in told.found.metric.values() and "rank" not in metric:
                    gain = f"{points(one.gain)} {interval(one.low, one.high)}"
                    lines.append(
                        f"| {name} | {METRICS[metric]} | {percent(one.champion)} | "
                        f"{percent(one.challenger)} | {gain} |"
                    )
    return "\n".join(lines) + "\n"
