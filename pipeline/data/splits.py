"""The split: a function of (seed, group) alone, so rows added later move nothing.

What stands in two splits leaks: an image, a group, or two pictures that are nearly the same (these
in pipeline/duplicates/across.py). The side that is trained on gives way (val for test, train for
both), so the test set never moves.
"""

import hashlib

import pandas as pd

from pipeline.data.pairs import SPLITS, Split
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


def assign(pairs: pd.DataFrame, *, seed: int, shares: SplitShares) -> pd.Series:
    """The split of each pair: the user's where given, else by group, else by image content.

    A part that the user's split lacks altogether is cut from its train, by the same hash.
    """
    group = pairs["group"].fillna(pairs["image_id"])
    drawn = group.map({key: split_of(key, seed=seed, shares=shares) for key in group.unique()})
    given = pairs["split"]
    lacking = [name for name in SPLITS if name != "train" and not (given == name).any()]
    if given.notna().any() and lacking:
        cut = (given == "train") & drawn.isin(lacking)
        given = given.where(~cut, drawn)
    return given.fillna(drawn)


def leaks(pairs: pd.DataFrame, *, by: str = "image_id") -> pd.Series:
    """Pairs whose image (or other column `by`) stands in a split before theirs in `PRECEDENCE`.

    bool a pair; a null in the column leaks nothing.
    """
    rank = pairs["split"].map(PRECEDENCE).astype("int64")
    first = rank.groupby(pairs[by]).transform("min")
    return rank > first.fillna(rank)
