"""What a look finds: problems with their remedy, and facts."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

Level = Literal["stops", "hurts", "note"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""Worst first: stops the pipeline; will likely hurt the result; worth knowing."""

Section = Literal["data", "model", "device", "plan", "environment", "no effect"]


class Finding(NamedTuple):
    """A problem: the key it hangs on, the key's value, what follows from it, what to do."""

    level: Level
    key: str
    value: Any
    problem: str
    remedy: str


class Fact(NamedTuple):
    """A fact for people (`text`) and, where that differs, for programs (`value`)."""

    section: Section
    name: str
    text: str
    value: Any = None


class Look(NamedTuple):
    """What one look brings home."""

    findings: list[Finding]
    facts: list[Fact]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By level; within one, as they were found."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def about(number: float) -> str:
    """A number that is an estimate, in two digits: `about 1.2 million`."""
    for size, name in ((10**9, " billion"), (10**6, " million")):
        if number >= size:
            return f"about {number / size:.2g}{name}" if number < 100 * size else _round(number)
    return _round(number)


def _round(number: float) -> str:
    return f"about {int(float(f'{number:.2g}')):,}"


def percent(share: float) -> str:
    """A share for people: `12 %`."""
    return f"{100 * share:.0f} %"


def size_of(count: float) -> str:
    """Bytes for people, in powers of 1000: `1.5 GB`."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
