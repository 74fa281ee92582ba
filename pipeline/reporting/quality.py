"""What the page says of the data: its checks, its drift, what cleaning changed, what leaked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json
from pipeline.data.pairs import EXAMPLES_FILE, LABELS_FILE, LEAKS_FILE
from pipeline.reporting.leaks import Leak, read_leaks

DOCS_FILE = "data_docs.html"

_LEAKS = 24
_EXAMPLES = 2
_LABELS = 12


@dataclass(frozen=True)
class Quality:
    """All that the page says of the data beyond counts.

    Attributes:
        source: format, columns, guesses and notes, as validate wrote them.
        checks: the expectations about the table as a whole, as validate wrote them.
        drift: reference, figures and status, as validate wrote them.
        examples: rule → what it changed, each with source_row, before and after.
        leaks: the first of `leak_count`.
        labels_missing: part → the first of the labels that it lacks, or null.
    """

    source: Mapping[str, Any]
    checks: list[Mapping[str, Any]]
    drift: Mapping[str, Any]
    examples: Mapping[str, list[Mapping[str, Any]]]
    leaks: list[Leak]
    leak_count: int
    labels_missing: Mapping[str, list[str] | None]


def read_quality(valid: Path, clean: Path, quality: Path, *, source: Path, packed: Path) -> Quality:
    """Read what `validate` and `clean` left in their folders."""
    leaks, count = read_leaks(clean / LEAKS_FILE, valid, source=source, packed=packed, limit=_LEAKS)
    missing = read_json(clean / LABELS_FILE)["missing"]
    checks = read_json(quality / "checks.json")
    examples = read_json(clean / EXAMPLES_FILE)
    return Quality(
        source=read_json(quality / "source.json"),
        checks=[check for check in checks if check["level"] == "table"],
        drift=read_json(quality / "drift.json"),
        examples={rule: listed[:_EXAMPLES] for rule, listed in examples.items() if listed},
        leaks=leaks,
        leak_count=count,
        labels_missing={part: labels and labels[:_LABELS] for part, labels in missing.items()},
    )
