"""Pictures that leak across the split, side by side: in the report, and all of them as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.pairs import LEAK, LEAKS_FILE, PAIRS_FILE
from pipeline.data.places import Places, places_of
from pipeline.errors import CliptuneError
from pipeline.reporting.pages import environment
from pipeline.reporting.thumbnails import thumbnail


@dataclass(frozen=True)
class Leak:
    """A picture that was set aside, beside the one of another split that keeps its place."""

    picture: str | None
    image: str
    source_row: int
    split: str
    other_picture: str | None
    other_image: str
    other_row: int
    other_split: str
    reason: str
    similarity: float | None


def find_table(*folders: Path) -> Path:
    """The table of leaks in the first of `folders` that has one; CliptuneError where none has."""
    for folder in folders:
        if (folder / LEAKS_FILE).is_file():
            return folder / LEAKS_FILE
    raise CliptuneError(f"{folders[0] / LEAKS_FILE} is missing: run `dvc repro clean` first")


def read_leaks(
    table: Path, valid: Path, *, source: Path, packed: Path, limit: int
) -> tuple[list[Leak], int]:
    """The first `limit` leaks of a table, each two pictures once, and how many there are in all.

    `valid` is validate's folder: those set aside stand among its pairs alone.
    """
    leaks = pq.read_table(table, schema=LEAK).to_pandas()
    distinct = leaks.drop_duplicates(["image_id", "other_id"])
    shown = distinct.head(limit)
    places = _places(valid, shown, source=source, packed=packed)
    return [_leak(row, places) for row in shown.to_dict("records")], len(distinct)


def as_page(leaks: Sequence[Leak], *, count: int, table: Path) -> str:
    """A page of `leaks`, of which there are `count` in `table`; all text is escaped."""
    template = environment().get_template("leaks.html.j2")
    return template.render(leaks=leaks, count=count, table=str(table))


def _places(valid: Path, leaks: pd.DataFrame, *, source: Path, packed: Path) -> Places:
    ids = sorted({*leaks["image_id"], *leaks["other_id"]})
    wanted = pc.field("image_id").isin(pa.array(ids, pa.string()))
    rows = pq.read_table(valid / PAIRS_FILE, filters=wanted)
    return places_of(rows.to_pandas(), source=source, packed=packed)


def _leak(row: dict[Any, Any], places: Places) -> Leak:
    return Leak(
        picture=thumbnail(places.get(row["image_id"])),
        image=row["image"],
        source_row=row["source_row"],
        split=row["split"],
        other_picture=thumbnail(places.get(row["other_id"])),
        other_image=row["other_image"],
        other_row=row["other_row"],
        other_split=row["other_split"],
        reason=row["reason"],
        similarity=None if pd.isna(row["similarity"]) else float(row["similarity"]),
    )
