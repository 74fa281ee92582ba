"""Which pictures show best what the fine-tune changed."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Changes:
    """Rows of the predictions, the most telling first: wrong before and right now, or reverse."""

    gained: pd.DataFrame
    lost: pd.DataFrame


@dataclass(frozen=True)
class Confusion:
    """`count` of the `of` images of class `actual` are taken for `predicted`; the base: `base`.

    `images` are ids.
    """

    actual: str
    predicted: str
    count: int
    of: int
    base: int
    images: tuple[str, ...]


def has_labels(predictions: pd.DataFrame) -> bool:
    """Whether right and wrong follow from classes; else they follow from the caption's rank.

    Labels alone don't do: a set of one class is not classified.
    """
    both = predictions["label"].notna() & predictions["final_label"].notna()
    return bool(both.any())


def changes(predictions: pd.DataFrame) -> Changes:
    """The images whose answer changed between right and wrong.

    With labels: right is the class. One image a class comes first, then a second of each; within
    that the surer answer of the fine-tuned model. Without labels: right is the image's own
    caption at rank 1; the larger change of rank comes first.
    """
    if has_labels(predictions):
        rows = predictions[predictions["label"].notna()]
        before = rows["base_label"] == rows["label"]
        after = rows["final_label"] == rows["label"]
        return Changes(_vary(rows[after & ~before]), _vary(rows[before & ~after]))
    before, after = (
        predictions["base_rank_i2t"] == 1,
        predictions["final_rank_i2t"] == 1,
    )
    gained, lost = predictions[after & ~before], predictions[before & ~after]
    return Changes(
        gained.sort_values(["base_rank_i2t", "image_id"], ascending=[False, True]),
        lost.sort_values(["final_rank_i2t", "image_id"], ascending=[False, True]),
    )


def worst_confusions(predictions: pd.DataFrame, *, limit: int, images: int) -> list[Confusion]:
    """The `limit` pairs of classes that the fine-tuned model mixes up most, `images` of each."""
    rows = predictions[predictions["label"].notna()]
    sizes = rows["label"].value_counts().to_dict()
    before = rows.groupby(["label", "base_label"]).size().to_dict()
    wrong = rows[rows["final_label"] != rows["label"]]
    found = []
    for (actual, predicted), group in wrong.groupby(["label", "final_label"]):
        surest = group.sort_values(["final_score", "image_id"], ascending=[False, True])
        found.append(
            Confusion(
                actual=str(actual),
                predicted=str(predicted),
                count=len(group),
                of=sizes[actual],
                base=before.get((actual, predicted), 0),
                images=tuple(surest["image_id"][:images]),
            )
        )
    return sorted(found, key=lambda x: (-x.count, x.actual, x.predicted))[:limit]


def _vary(rows: pd.DataFrame) -> pd.DataFrame:
    surest = rows.sort_values(["final_score", "image_id"], ascending=[False, True])
    nth_of_class = surest.groupby("label").cumcount()
    return surest.loc[nth_of_class.sort_values(kind="stable").index]
