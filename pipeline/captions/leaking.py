"""What stands in two splits: found, told by pair, and set aside on the training side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import new_folder
from pipeline.data import splits
from pipeline.data.pairs import LEAK, LEAKS_FILE, write_table
from pipeline.duplicates.across import near_leaks
from pipeline.errors import DataError
from pipeline.params import CleanParams

SHOWN = 5
"""Leaks that an error message lists."""


@dataclass(frozen=True)
class Leaks:
    """The split, and what leaks across it.

    Attributes:
        split: of each pair that was looked at.
        reasons: of each such pair, the reason to set it aside, or null.
        table: a row for each pair set aside, as `LEAK` says.
    """

    split: pd.Series
    reasons: pd.Series
    table: pd.DataFrame


def find_leaks(
    pairs: pd.DataFrame, near_images: pd.DataFrame, params: CleanParams, *, seed: int
) -> Leaks:
    """Assign the split, and find what leaks: images, then groups, then near-duplicate images."""
    split = splits.assign(pairs, seed=seed, shares=params.split, cut=params.cut_from_train)
    placed = pairs.assign(split=split)
    reasons = pd.Series(None, index=pairs.index, dtype=object)
    told = []
    for reason, column in (("image_in_two_splits", "image_id"), ("group_in_two_splits", "group")):
        left = placed[reasons.isna()]
        leaking = left[splits.leaks(left, by=column)]
        reasons[leaking.index] = reason
        told.append(_told(leaking, left, reason=reason, column=column))
    left = placed[reasons.isna()]
    split_of_image = left.drop_duplicates("image_id").set_index("image_id")["split"]
    near = near_leaks(split_of_image, near_images)
    leaking = left[left["image_id"].isin(near["image"])]
    reasons[leaking.index] = "near_image_in_two_splits"
    told.append(_told_near(leaking, left, near))
    table = pd.concat(told).sort_values("pair", ignore_index=True)
    return Leaks(split=placed["split"], reasons=reasons, table=table)


def stop(table: pd.DataFrame, *, failed: Path) -> DataError:
    """What ends the pipeline where `clean.leaks` is stop; all leaks are written to `failed`."""
    with new_folder(failed) as kept:
        write_table(table, LEAK, kept / LEAKS_FILE)
    listed = [
        f"row {leak['source_row']} ({leak['split']}) and row {leak['other_row']} "
        f"({leak['other_split']}): {leak['reason'].replace('_', ' ')}: {leak['image']} and "
        f"{leak['other_image']}"
        for leak in table.head(SHOWN).to_dict("records")
    ]
    more = [f"and {len(table) - SHOWN:,} more"] if len(table) > SHOWN else []
    lines = [
        f"{len(table):,} rows leak across the split, and clean.leaks is stop: mend the split "
        "of your source, or set clean.leaks to set_aside, which leaves them out of training",
        *listed,
        *more,
        f"Each is listed in {failed / LEAKS_FILE}; `cliptune leaks` shows the pictures",
    ]
    return DataError("\n       ".join(lines), left=failed)


def _told(leaking: pd.DataFrame, left: pd.DataFrame, *, reason: str, column: str) -> pd.DataFrame:
    """Each leaking pair beside the first pair that keeps what both share."""
    rank = left["split"].map(splits.PRECEDENCE)
    keeper = left.assign(_rank=rank).sort_values(["_rank", "pair"]).drop_duplicates(column)
    other = keeper.set_index(column, drop=False).reindex(leaking[column])
    return _table(leaking, other, reason=reason, similarity=1.0 if column == "image_id" else None)


def _told_near(leaking: pd.DataFrame, left: pd.DataFrame, near: pd.DataFrame) -> pd.DataFrame:
    """Each leaking pair beside the nearest picture that keeps its place."""
    nearest = near.sort_values(["similarity", "other"], ascending=[False, True])
    nearest = nearest.drop_duplicates("image").set_index("image").reindex(leaking["image_id"])
    first = left.drop_duplicates("image_id").set_index("image_id", drop=False)
    other = first.reindex(nearest["other"])
    similarity = nearest["similarity"].to_numpy()
    return _table(leaking, other, reason="near_image_in_two_splits", similarity=similarity)


def _table(
    leaking: pd.DataFrame, other: pd.DataFrame, *, reason: str, similarity: Any
) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "pair": leaking["pair"].to_numpy(),
            "source_row": leaking["source_row"].to_numpy(),
            "image": leaking["image"].to_numpy(),
            "image_id": leaking["image_id"].to_numpy(),
            "split": leaking["split"].to_numpy(),
            "other": other["pair"].to_numpy(),
            "other_row": other["source_row"].to_numpy(),
            "other_image": other["image"].to_numpy(),
            "other_id": other["image_id"].to_numpy(),
            "other_split": other["split"].to_numpy(),
        }
    )
    found: pd.DataFrame = table.assign(reason=reason, similarity=similarity)[LEAK.names]
    return found
