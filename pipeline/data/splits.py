"""The split: a function of (seed, group) alone, so rows added later move nothing."""

import hashlib

import pandas as pd

from pipeline.data.pairs import Split
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
    """The split of each pair: the user's where given, else by group, else by image content."""
    group = pairs["group"].fillna(pairs["image_id"])
    by_group = {key: split_of(key, seed=seed, shares=shares) for key in group.unique()}
    return pairs["split"].fillna(group.map(by_group))


def leaks(pairs: pd.DataFrame) -> pd.Series:
    """Pairs whose image stands in a split that comes before theirs in `PRECEDENCE`: bool a pair."""
    rank = pairs["split"].map(PRECEDENCE)
    return rank > rank.groupby(pairs["image_id"]).transform("min")
