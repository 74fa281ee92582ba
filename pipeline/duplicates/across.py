"""Near-duplicate pictures on different sides of the split, of which one has to go."""

import pandas as pd

from pipeline.duplicates.groups import group_of

SAME = 1.0
"""Similarity of pictures that look exactly alike. Where many do, not all their pairs are listed
(pipeline/duplicates/images.py), so they are taken as one: what is near to one is near to each."""


def near_leaks(image_split: pd.Series, near: pd.DataFrame) -> pd.DataFrame:
    """Images to set aside because they are near-duplicates of one in a split before theirs.

    `image_split` is the split by image id; `near` has the columns a, b, similarity, and may name
    other ids too. Returns image (the one to set aside), other (one that keeps its place; of several
    that look exactly alike, the first), similarity; sorted. Images near a test image go first: one
    that has gone makes no other go.
    """
    look, links = _looks(near)
    looks = [look.get(id_, id_) for id_ in image_split.index]
    images = pd.DataFrame(
        {"image": image_split.index, "split": image_split.to_numpy(), "look": looks}, dtype=str
    )
    of_test = _giving_way(images, links, keeps="test", goes=("train", "val"))
    left = images[~images["image"].isin(of_test["image"])]
    of_val = _giving_way(left, links, keeps="val", goes=("train",))
    return pd.concat([of_test, of_val]).sort_values(["image", "other"], ignore_index=True)


def _looks(near: pd.DataFrame) -> tuple[dict[str, str], pd.DataFrame]:
    """The least id that looks the same, by id; and which looks are near to which (one, two)."""
    same = near[near["similarity"] >= SAME]
    look = group_of(sorted({*same["a"], *same["b"]}), same)
    one, two = ([look.get(id_, id_) for id_ in near[side]] for side in ("a", "b"))
    value = near["similarity"].tolist()
    links = pd.DataFrame({"one": one + two, "two": two + one, "similarity": value + value})
    nearest = links.astype({"one": str, "two": str}).sort_values("similarity", ascending=False)
    return look, nearest.drop_duplicates(["one", "two"])


def _giving_way(
    images: pd.DataFrame, links: pd.DataFrame, *, keeps: str, goes: tuple[str, ...]
) -> pd.DataFrame:
    """Images of the splits `goes` beside each look of the split `keeps` that is near to theirs."""
    keeper = images[images["split"] == keeps].groupby("look")["image"].min()
    across = links[links["two"].isin(keeper.index)]
    going = images[images["split"].isin(goes)]
    found = going.merge(across, left_on="look", right_on="one")
    return found.assign(other=found["two"].map(keeper))[["image", "other", "similarity"]]
