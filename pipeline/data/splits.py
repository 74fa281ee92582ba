"""The split: a function of seed, group and the user's own split alone, row by row, so that rows
added later move nothing.

What stands in two splits leaks: an image, a group, or two pictures that are nearly the same (these
in pipeline/duplicates/across.py). The side that is trained on gives way (val for test, train for
both), so the test set never moves.
"""

import hashlib
from collections.abc import Collection

import pandas as pd

from pipeline.data.pairs import SPLITS, Split
from pipeline.errors import DataError
from pipeline.params import SplitShares

PRECEDENCE: dict[str, int] = {"test": 0, "val": 1, "train": 2}
"""Where an image stands in several splits, the first of these keeps it: test never moves."""


def split_of(group: str, *, seed: int, shares: SplitShares) -> Split:
    """The split of a group: its hash as a number in [0, 1), cut by the shares."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < shares.test:
        return "test"
    return "val" if place < shares.test + shares.val else "train"


def assign(
    pairs: pd.DataFrame, *, seed: int, shares: SplitShares, cut: Collection[str]
) -> pd.Series:
    """The split of each pair: the user's where given, else by group, else by image content.

    The parts in `cut` are cut from the user's train, by the same hash, whether or not it has such
    parts of its own: were that asked, one row added later could move others back.
    """
    group = pairs["group"].fillna(pairs["image_id"])
    drawn = group.map({key: split_of(key, seed=seed, shares=shares) for key in group.unique()})
    given = pairs["split"]
    return given.where(~((given == "train") & drawn.isin(cut)), drawn).fillna(drawn)


def require_parts(given: pd.Series, *, shares: SplitShares, cut: Collection[str]) -> None:
    """Raise DataError where the user's split lacks val or test, and nothing says what to do."""
    if given.isna().any() or given.empty:
        return
    present = [name for name in SPLITS if (given == name).any()]
    lacking = lacking_parts(present, shares=shares, cut=cut)
    if lacking:
        raise DataError(
            f"your own split has {', '.join(present)} and no {' and no '.join(lacking)}: set "
            f"`clean.cut_from_train` to [{', '.join([*cut, *lacking])}], which cuts their shares "
            "from your train by hash; or mark rows so; or set their shares in `clean.split` to 0"
        )


def lacking_parts(
    present: Collection[str], *, shares: SplitShares, cut: Collection[str]
) -> list[str]:
    """Parts that are asked for, and neither present in the user's split nor cut from its train."""
    wanted = [name for name in SPLITS if name != "train" and getattr(shares, name) > 0]
    return [name for name in wanted if name not in present and name not in cut]


def leaks(pairs: pd.DataFrame, *, by: str = "image_id") -> pd.Series:
    """Pairs whose image (or other column `by`) stands in a split before theirs in `PRECEDENCE`.

    bool a pair; a null in the column leaks nothing.
    """
    rank = pairs["split"].map(PRECEDENCE).astype("int64")
    first = rank.groupby(pairs[by]).transform("min")
    return rank > first.fillna(rank)
