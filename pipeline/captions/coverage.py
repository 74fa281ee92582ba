"""Which labels the parts of the split lack, once all has been cleaned and set aside."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import new_folder, write_json
from pipeline.data.pairs import LABELS_FILE, SPLITS
from pipeline.errors import DataError
from pipeline.params import SplitShares, Threshold

SHOWN = 5
"""Labels that a message lists, a part."""


@dataclass(frozen=True)
class Coverage:
    """Labels that were there before cleaning, and those that are missing after, by part.

    A part that is meant to be empty (a share of 0, and no pair) lacks nothing; its entry is null,
    as all are where there is no label.
    """

    distinct: int
    missing: Mapping[str, list[str] | None]

    @property
    def share(self) -> float | None:
        """The share of labels that some part lacks; null where there is none to ask about."""
        lacking = {label for labels in self.missing.values() for label in labels or ()}
        return round(len(lacking) / self.distinct, 6) if self.distinct else None

    def counts(self) -> dict[str, Any]:
        """As metrics."""
        missing = {part: None if x is None else len(x) for part, x in self.missing.items()}
        return {"distinct": self.distinct, "missing": missing, "missing_share": self.share}

    def as_dict(self) -> dict[str, Any]:
        """All of it, as `labels.json` holds it."""
        return {"distinct": self.distinct, "missing": dict(self.missing)}


def coverage(labels: pd.Series, accepted: pd.DataFrame, *, shares: SplitShares) -> Coverage:
    """What became of `labels`, those of all pairs before cleaning, in the split of `accepted`."""
    known = {str(label) for label in labels.dropna().unique()}
    by_part = {str(part): set(some.dropna()) for part, some in accepted.groupby("split")["label"]}
    missing: dict[str, list[str] | None] = {
        part: sorted(known - by_part.get(part, set()))
        if known and (part in by_part or getattr(shares, part) > 0)
        else None
        for part in SPLITS
    }
    return Coverage(len(known), missing)


def judge(found: Coverage, limit: Threshold, *, folder: Path, failed: Path) -> list[str]:
    """A warning where more labels are missing than `limit.warn`, or none.

    Raises DataError above `limit.stop`, all that are missing being in `failed` then.
    """
    if found.share is None:
        return []
    if limit.stop is not None and found.share > limit.stop:
        with new_folder(failed) as kept:
            write_json(kept / LABELS_FILE, found.as_dict())
        said = _above(found, f"stop: {limit.stop:g}", file=failed / LABELS_FILE)
        remedy = "add rows of them, raise the shares in clean.split, or raise the limit"
        raise DataError(f"{said}: {remedy}", left=failed)
    if limit.warn is not None and found.share > limit.warn:
        said = _above(found, f"warn: {limit.warn:g}", file=folder / LABELS_FILE)
        return [f"warning: {said}"]
    return []


def _above(found: Coverage, limit: str, *, file: Path) -> str:
    lacking = "; ".join(
        f"{part} lacks {len(labels):,}: {', '.join(map(_shown, labels[:SHOWN]))}"
        + (", …" * (len(labels) > SHOWN))
        for part, labels in found.missing.items()
        if labels
    )
    return (
        f"share of labels that a part of the split lacks: {found.share:.3g} of {found.distinct:,}, "
        f"above clean.labels_missing.{limit} ({lacking}; all are in {file})"
    )


def _shown(label: str) -> str:
    text = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(label.split()))
    return text if len(text) <= 60 else text[:59] + "…"
