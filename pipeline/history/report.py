"""What a reproduction found, its verdict, and the report for people.

Verdicts, and what each of them says:

    identical           nothing was run: commit, patch, params, data and outputs, as they were
                        recorded, stand in a tree of their own, and DVC finds no difference
    reproduced          every stage was run again, and every output has the recorded hash
    within tolerances   run again on another kind of machine, or with other packages: outputs
                        differ in their bytes, and no metric by more than the tolerance
    differs             something does, and is named
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.registry.reproduce import Figure, Output

Verdict = Literal["identical", "reproduced", "within tolerances", "differs"]
PROVED = ("identical", "reproduced", "within tolerances")

SHOWN = 20
"""Lines of one kind in a report."""


@dataclass
class Report:
    """What was found.

    Attributes:
        verdict: see the module.
        reasons: what speaks against it, or must be known of it.
        changes: what DVC found changed in the tree as it was restored, by stage.
        outputs, figures: recorded and now, where the stages were run again.
        environment: how packages and machine differ from the recorded ones.
        exact: whether equal bytes were to be expected: same packages, same kind of processor, no
            GPU.
    """

    run: str
    name: str
    stage: str | None
    commit: str
    at: str
    rerun: bool
    tolerance: float
    verdict: Verdict = "identical"
    reasons: list[str] = field(default_factory=list)
    changes: dict[str, list[str]] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    exact: bool = True

    @property
    def proved(self) -> bool:
        """Whether the run stands as recorded."""
        return self.verdict in PROVED


def environment_differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Python and packages that are not the same, `name: recorded → now`."""
    one, other = (_versions(found) for found in (recorded, now))
    return [
        f"{name}: {one.get(name, 'none')} → {other.get(name, 'none')}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _versions(environment: Mapping[str, Any]) -> dict[str, str]:
    packages = (text.partition("==") for text in environment["packages"])
    return {"python": environment["python"], **{name: version for name, _, version in packages}}


def judged(report: Report) -> Verdict:
    """The verdict of outputs and figures; adds to the reasons why it is no better."""
    other = [one for one in report.outputs if one.recorded != one.now]
    if not other:
        return "reproduced"
    report.reasons.append(f"{len(other)} of {len(report.outputs)} outputs have other bytes")
    far = [one for one in report.figures if not one.within(report.tolerance)]
    if not report.figures:
        report.reasons.append("there are no metrics to compare")
        return "differs"
    if far:
        report.reasons.append(
            f"{len(far)} of {len(report.figures)} metrics differ by more than {report.tolerance:g}"
        )
        return "differs"
    if report.exact:
        report.reasons.append(
            "machine and packages are the recorded ones, where equal bytes are expected"
        )
        return "differs"
    return "within tolerances"


def as_markdown(report: Report) -> str:
    """The report for people."""
    what = f"stage {report.stage} of " if report.stage else ""
    how = "its stages were run again" if report.rerun else "nothing was run"
    lines = [
        f"# {what}{report.name}: {report.verdict}",
        "",
        f"- run {report.run}, commit {report.commit}",
        f"- {report.at}; {how}",
    ]
    if report.rerun:
        equal = sum(one.recorded == one.now for one in report.outputs)
        near = sum(one.within(report.tolerance) for one in report.figures)
        lines.append(f"- {equal} of {len(report.outputs)} outputs have the recorded hash")
        lines.append(
            f"- {near} of {len(report.figures)} metrics are within {report.tolerance:g} "
            "(shares: absolute; larger numbers: relative)"
        )
        expected = "expected: packages and machine are the recorded ones, without a GPU"
        other = "not expected: the machine or the packages are others, or a GPU was there"
        lines.append(f"- equal bytes were {expected if report.exact else other}")
    lines += _section("What to know", report.reasons)
    changes = [f"{stage}: {line}" for stage, found in report.changes.items() for line in found]
    lines += _section("Changed, as DVC finds it", changes)
    lines += _section(
        "Outputs with other bytes",
        [
            f"{one.stage}: {one.path}: {one.recorded} → {one.now}"
            for one in report.outputs
            if one.recorded != one.now
        ],
    )
    lines += _section(
        "Metrics that differ",
        [
            f"{one.name}: {one.recorded} → {one.now}"
            for one in sorted(report.figures, key=lambda one: one.within(report.tolerance))
            if one.recorded != one.now
        ],
    )
    lines += _section("Environment, recorded → here", report.environment)
    return "\n".join(lines) + "\n"


def _section(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = [f"- and {len(items) - SHOWN:,} more"] if len(items) > SHOWN else []
    return ["", f"## {title}", "", *(f"- {item}" for item in items[:SHOWN]), *more]
