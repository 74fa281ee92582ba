"""What was found, for people (text) and for programs (a dict)."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pipeline.doctor.findings import LEVELS, Fact, Finding, Level, Section

TITLES: dict[Level, str] = {
    "stops": "Will stop the pipeline",
    "hurts": "Will likely hurt",
    "note": "Worth knowing",
}
MARKS: dict[Level, str] = {"stops": "✗", "hurts": "!", "note": "·"}
COLOURS: dict[Level, str] = {"stops": "31", "hurts": "33", "note": "36"}

WIDTH = 80
NAME = 16


def as_text(findings: Iterable[Finding], facts: Iterable[Fact], *, colour: bool) -> str:
    """Problems, worst first, then facts by section; lines of 80 where they can be broken."""
    lines: list[str] = []
    found = list(findings)
    if not any(finding.level == "stops" for finding in found):
        lines += [_paint("Nothing found that stops `dvc repro`.", "1;32", colour=colour), ""]
    for level in LEVELS:
        of_level = [finding for finding in found if finding.level == level]
        if of_level:
            lines += [_paint(f"{TITLES[level]} ({len(of_level)})", "1", colour=colour)]
            lines += [line for finding in of_level for line in _finding(finding, colour=colour)]
            lines += [""]
    listed = list(facts)
    for section in get_args(Section):
        of_section = [fact for fact in listed if fact.section == section]
        if of_section:
            lines += [_paint(section.capitalize(), "1", colour=colour)]
            width = max([NAME, *(len(fact.name) for fact in of_section)])
            lines += [line for fact in of_section for line in _fact(fact, width)]
            lines += [""]
    return "\n".join(lines).rstrip()


def as_dict(findings: Iterable[Finding], facts: Iterable[Fact]) -> dict[str, Any]:
    """`problems`, worst first, and `facts` by section and name."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in get_args(Section)}
    for fact in facts:
        sections[fact.section][fact.name] = fact.text if fact.value is None else fact.value
    told = {section: named for section, named in sections.items() if named}
    return {"problems": [finding._asdict() for finding in findings], "facts": told}


def _finding(finding: Finding, *, colour: bool) -> Iterator[str]:
    value = "" if finding.value is None else f": {finding.value}"
    mark = _paint(MARKS[finding.level], COLOURS[finding.level], colour=colour)
    yield f"  {mark} {finding.key}{value}"
    yield from _wrapped(finding.problem, first=" " * 6, rest=" " * 6)
    if finding.remedy:
        yield from _wrapped(finding.remedy, first="    → ", rest=" " * 6)


def _fact(fact: Fact, width: int) -> Iterator[str]:
    yield from _wrapped(fact.text, first=f"  {fact.name:<{width}}  ", rest=" " * (width + 4))


def _wrapped(text: str, *, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _paint(text: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
