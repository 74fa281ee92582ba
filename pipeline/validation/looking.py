"""Rows of a source → the same rows, with where their images lie and what was found of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.data.facts import ImageFacts
from pipeline.data.inspection import Inspector, Request
from pipeline.validation.packing import Packer

TEXTS = ("image", "file", "caption", "label", "group", "split")


def look(
    rows: pd.DataFrame, *, inspector: Inspector, packer: Packer, max_bytes: int
) -> pd.DataFrame:
    """The rows of a batch, without their content, with the facts of their images.

    What came with a row is packed first, unless it is above `max_bytes`. Added are `packed`, the
    fields of `ImageFacts`, and its problem and value as `image_problem` and `image_value`.
    """
    placed, problems = _packed(rows, packer, max_bytes=max_bytes)
    known = problems.isna() & placed["file"].notna()
    keys = ["packed", "file", "offset", "length"]
    groups = placed.loc[known].groupby(keys, sort=False, dropna=False).ngroup()
    first = placed.loc[groups.index[~groups.duplicated()]]
    facts = _facts([*_inspected(first, inspector, packer), ImageFacts()])
    codes = pd.Series(len(first), index=placed.index).where(~known, groups.reindex(placed.index))
    found = facts.take(codes.to_numpy(dtype=np.int64)).set_axis(placed.index)
    about_file = found["image_value"] == placed["file"]  # of a part of a file, its name says more
    found["image_value"] = found["image_value"].where(~about_file, placed["image"])
    found["image_value"] = found["image_value"].where(problems.isna(), _said(rows, problems))
    found["image_problem"] = found["image_problem"].where(problems.isna(), problems)
    return pd.concat([placed, found], axis=1)


def _packed(
    rows: pd.DataFrame, packer: Packer, *, max_bytes: int
) -> tuple[pd.DataFrame, pd.Series]:
    """The rows with `packed` and places; and what is wrong with those that have no place."""
    given = rows["content"].notna()
    sizes = rows["content"][given].map(len)
    too_large = sizes[sizes > max_bytes].index
    problems = pd.Series(None, index=rows.index, dtype="str")
    problems[too_large] = "image_too_many_bytes"
    problems[rows["image"].notna() & rows["file"].isna() & ~given] = "image_missing"
    at = sizes.index.difference(too_large)
    places = packer.add(rows.loc[at, "content"].tolist())
    placed = rows.drop(columns="content").astype(dict.fromkeys(TEXTS, "str"))
    placed["packed"] = False
    if places:
        placed.loc[at, "packed"] = True
        for name in ("file", "offset", "length"):
            placed.loc[at, name] = [getattr(place, name) for place in places]
    return placed, problems


def _said(rows: pd.DataFrame, problems: pd.Series) -> pd.Series:
    """What is told of a row's problem: how large its image is, or what it is called."""
    large = problems == "image_too_many_bytes"
    sizes = rows["content"][large].map(lambda content: f"{len(content)} bytes")
    return rows["image"].where(~large, sizes.reindex(rows.index)).astype("str")


def _inspected(first: pd.DataFrame, inspector: Inspector, packer: Packer) -> list[ImageFacts]:
    requests = [
        (file, None, None) if pd.isna(offset) else (file, int(offset), int(length))
        for file, offset, length in zip(
            first["file"], first["offset"], first["length"], strict=True
        )
    ]
    packed = first["packed"].to_numpy(dtype=bool)
    facts: dict[tuple[bool, Request], ImageFacts] = {}
    for is_packed, root in ((False, None), (True, packer.folder)):
        asked = [r for r, p in zip(requests, packed, strict=True) if p == is_packed]
        found = inspector.inspect(asked, packed=root) if asked else []
        facts |= {(is_packed, r): f for r, f in zip(asked, found, strict=True)}
    return [facts[bool(p), r] for p, r in zip(packed, requests, strict=True)]


def _facts(facts: Sequence[ImageFacts]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": pd.Series([f.image_id for f in facts], dtype="str"),
            "width": np.array([f.width for f in facts], dtype=np.int32),
            "height": np.array([f.height for f in facts], dtype=np.int32),
            "format": pd.Series([f.format for f in facts], dtype="str"),
            "mode": pd.Series([f.mode for f in facts], dtype="str"),
            "brightness": np.array([f.brightness for f in facts], dtype=np.float32),
            "signature": pd.Series([f.signature for f in facts], dtype=object),
            "image_problem": pd.Series([f.problem for f in facts], dtype="str"),
            "image_value": pd.Series([f.value for f in facts], dtype="str"),
        }
    )
