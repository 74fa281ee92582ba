"""What the page says of the data: its checks, its drift, what cleaning changed, what leaked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.artifacts import read_json
from pipeline.data.pairs import EXAMPLES_FILE, LEAK, LEAKS_FILE, PAIRS_FILE
from pipeline.data.places import Places, places_of
from pipeline.reporting.thumbnails import thumbnail

DOCS_FILE = "data_docs.html"

_LEAKS = 6
_EXAMPLES = 2


@dataclass(frozen=True)
class Leak:
    """A picture that was set aside, beside the one of another split that keeps its place."""

    picture: str | None
    image: str
    split: str
    other_picture: str | None
    other_image: str
    other_split: str
    reason: str
    similarity: float | None


@dataclass(frozen=True)
class Quality:
    """All that the page says of the data beyond counts.

    Attributes:
        source: format, columns, guesses and notes, as validate wrote them.
        checks: the expectations about the table as a whole, as validate wrote them.
        drift: reference, figures and status, as validate wrote them.
        examples: rule → what it changed, each with source_row, before and after.
        leaks: the first of `leak_count`.
    """

    source: Mapping[str, Any]
    checks: list[Mapping[str, Any]]
    drift: Mapping[str, Any]
    examples: Mapping[str, list[Mapping[str, Any]]]
    leaks: list[Leak]
    leak_count: int


def read_quality(valid: Path, clean: Path, quality: Path, *, source: Path, packed: Path) -> Quality:
    """Read what `validate` and `clean` left in their folders."""
    leaks = pq.read_table(clean / LEAKS_FILE, schema=LEAK).to_pandas()
    distinct = leaks.drop_duplicates(["image_id", "other_id"])
    shown = distinct.head(_LEAKS)
    places = _places(valid, shown, source=source, packed=packed)
    checks = read_json(quality / "checks.json")
    examples = read_json(clean / EXAMPLES_FILE)
    return Quality(
        source=read_json(quality / "source.json"),
        checks=[check for check in checks if check["level"] == "table"],
        drift=read_json(quality / "drift.json"),
        examples={rule: listed[:_EXAMPLES] for rule, listed in examples.items() if listed},
        leaks=[_leak(row, places) for row in shown.to_dict("records")],
        leak_count=len(distinct),
    )


def _places(valid: Path, leaks: pd.DataFrame, *, source: Path, packed: Path) -> Places:
    """Where the pictures of the leaks lie; those set aside stand among the valid pairs alone."""
    ids = sorted({*leaks["image_id"], *leaks["other_id"]})
    wanted = pc.field("image_id").isin(pa.array(ids, pa.string()))
    rows = pq.read_table(valid / PAIRS_FILE, filters=wanted)
    return places_of(rows.to_pandas(), source=source, packed=packed)


def _leak(row: dict[Any, Any], places: Places) -> Leak:
    return Leak(
        picture=thumbnail(places.get(row["image_id"])),
        image=row["image"],
        split=row["split"],
        other_picture=thumbnail(places.get(row["other_id"])),
        other_image=row["other_image"],
        other_split=row["other_split"],
        reason=row["reason"],
        similarity=None if pd.isna(row["similarity"]) else float(row["similarity"]),
    )
