"""Near-duplicates among what is cleaned: pairs and groups of pictures, and of captions."""

from dataclasses import dataclass

import pandas as pd

from pipeline.data.pairs import NEAR_CAPTION, NEAR_IMAGE, Signatures
from pipeline.duplicates.captions import near_captions
from pipeline.duplicates.groups import group_of
from pipeline.duplicates.images import near_pairs
from pipeline.params import CleanParams, NearCaptions


@dataclass(frozen=True)
class Near:
    """Near-duplicate pictures, and how to look for such captions.

    Attributes:
        images: a, b (image ids), similarity, group.
        group: the group's name (its least image id) by image id, of images that have a group.
        params: what counts as nearly the same caption.
    """

    images: pd.DataFrame
    group: dict[str, str]
    params: NearCaptions

    def captions(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """Near-duplicate captions of `pairs`: a, b (first `pair` with each), similarity, group."""
        if not self.params.find:
            return _none(NEAR_CAPTION.names)
        first = pairs.drop_duplicates("caption")
        near = near_captions(first["caption"].tolist(), min_similarity=self.params.min_similarity)
        number = first["pair"].to_numpy()
        found = pd.DataFrame(
            {"a": number[near["a"]], "b": number[near["b"]], "similarity": near["similarity"]}
        )
        return _grouped(found)


def find_near(image_ids: list[str], signatures: Signatures, params: CleanParams) -> Near:
    """Near-duplicates among N images by their signatures (N×S), where params ask for them."""
    if not params.near_images.find:
        return Near(_none(NEAR_IMAGE.names), {}, params.near_captions)
    near = near_pairs(image_ids, signatures, min_similarity=params.near_images.min_similarity)
    grouped = _grouped(near)
    return Near(grouped, group_of(_members(near), near), params.near_captions)


def near_repeats(pairs: pd.DataFrame, near: pd.DataFrame) -> pd.Series:
    """The reason of pairs whose image has an earlier pair with nearly the same caption."""
    first = pairs.drop_duplicates("caption").set_index("pair")["caption"]
    group = dict(zip(near["a"].map(first), near["group"], strict=True)) | dict(
        zip(near["b"].map(first), near["group"], strict=True)
    )
    keys = pd.DataFrame({"image": pairs["image_id"], "group": pairs["caption"].map(group)})
    again = keys["group"].notna() & keys.duplicated(keep="first")
    return pd.Series("caption_near_repeated", index=pairs.index, dtype=object).where(again, None)


def _grouped(near: pd.DataFrame) -> pd.DataFrame:
    group = group_of(_members(near), near)
    return near.assign(group=[group[a] for a in near["a"]])


def _members(near: pd.DataFrame) -> list[str]:
    return sorted(set(near["a"]) | set(near["b"]))


def _none(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in columns})
