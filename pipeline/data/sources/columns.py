"""Which column holds what: named in params, or guessed among common names."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.data.sources.rows import SPLIT_NAMES
from pipeline.errors import DataError
from pipeline.params import Columns

FIELDS = ("image", "caption", "label", "group", "split")

COMMON: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "image_path", "img", "img_path", "image_file", "file", "file_name", "filename",
        "filepath", "file_path", "path", "jpg", "picture", "image_name",
    ),
    "caption": (
        "caption", "captions", "text", "texts", "title", "description", "sentence", "sentences",
        "alt_text", "alt", "prompt", "raw", "comment",
    ),
    "label": ("label", "class", "class_name", "category", "fine_label"),
    "split": ("split",),
}  # fmt: skip
"""Names that are guessed, the first that is there, whatever its case."""


class Chosen(NamedTuple):
    """Field → column, the fields whose column was guessed, and what else is worth telling."""

    columns: dict[str, str]
    guessed: list[str]
    notes: list[str]


def choose(
    wanted: Columns,
    present: Sequence[str],
    first: Sequence[Mapping[str, Any]],
    *,
    where: str,
    needed: Sequence[str],
) -> Chosen:
    """Settle the columns of a source that has the columns `present` and begins with rows `first`.

    Raises DataError naming the key when a column is missing that is named or `needed`.
    """
    columns: dict[str, str] = {}
    guessed: list[str] = []
    notes: list[str] = []
    by_case = {name.lower(): name for name in reversed(present)}
    for field in FIELDS:
        name = getattr(wanted, field)
        if name is None:
            continue
        if name != "auto":
            if name not in present:
                raise DataError(_missing(field, name, present, where))
            columns[field] = name
            continue
        likely = [by_case[common] for common in COMMON.get(field, ()) if common in by_case]
        if field == "split" and likely:
            known, odd = _splits(likely[0], first)
            told = ", ".join(odd)
            if not known:
                notes.append(f"column {likely[0]} is no split: it holds {told or 'nothing'}")
                continue
            if odd:
                notes.append(f"column {likely[0]} holds {told}: such rows are rejected")
        if likely:
            columns[field] = likely[0]
            guessed.append(field)
            if len(likely) > 1:
                notes.append(f"{field} could also be {', '.join(likely[1:])}")
        elif field in needed:
            raise DataError(
                f"{where} has no column that is known to hold the {field} (it has: "
                f"{', '.join(sorted(present))}): set data.columns.{field}"
            )
    return Chosen(columns, guessed, notes)


def _missing(field: str, name: str, present: Sequence[str], where: str) -> str:
    optional = "" if field in ("image", "caption") else ", or to null if there is none"
    return (
        f"{where} has no column {name!r} (it has: {', '.join(sorted(present))}): set "
        f"data.columns.{field} to the column that holds the {field}{optional}"
    )


def _splits(column: str, first: Sequence[Mapping[str, Any]]) -> tuple[bool, list[str]]:
    """Whether the column is a split, and values among the first rows that mean no part.

    It is one where half of the rows that have a value, or more, have a part's name there.
    """
    values = [str(row[column]) for row in first if row.get(column)]
    odd = [value for value in values if value.strip().lower() not in SPLIT_NAMES]
    known = len(values) - len(odd)
    return known > 0 and known >= len(odd), sorted({value[:40] for value in odd})[:3]
