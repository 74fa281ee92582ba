"""The sets on which models are compared: the target's test split, and general sets.

A general set is a folder with a captions file and images, in any format that `data.source` takes,
with the columns image, caption and label (which may be empty). What a fine-tune forgets shows on
it, as long as the fine-tune never saw it.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.artifacts import sha256_of
from pipeline.data.images import inside
from pipeline.data.pairs import read_pairs
from pipeline.data.sources import read_source
from pipeline.errors import DataError
from pipeline.params import Columns, DataParams

TARGET = "target"
"""The name of the test split among the sets."""


@dataclass(frozen=True)
class EvalSet:
    """Pairs to score.

    Attributes:
        pairs: image_id, image (from `root`), caption, label or null.
        classes: the names among which an image's label is looked for; empty without labels.
    """

    pairs: pd.DataFrame
    classes: list[str]
    root: Path


def target(clean: Path, source: Path) -> EvalSet:
    """The test split of the clean pairs, among the labels of all splits; empty is a DataError."""
    pairs = read_pairs(clean)
    test = pairs[pairs["split"] == "test"].reset_index(drop=True)
    if test.empty:
        raise DataError("the test split is empty: raise clean.split.test or add data")
    return EvalSet(test, _classes(pairs), source)


def general(folder: Path) -> dict[str, EvalSet]:
    """The sets below `folder`, by name; none is fine.

    Raises DataError when a set can't be read, or a row of it lacks image or caption: a set that
    measures must be whole.
    """
    if not folder.is_dir():
        raise DataError(
            f"evaluate.general is {str(folder)!r}, which is not a folder: name one that holds a "
            "folder a set, or an empty one to measure no forgetting"
        )
    folders = sorted(f for f in folder.iterdir() if f.is_dir())
    if any(f.name == TARGET for f in folders):
        raise DataError(f"{folder / TARGET}: that name means your own test split; rename the set")
    return {f.name: _general(f) for f in folders}


def _general(folder: Path) -> EvalSet:
    columns = Columns(image="image", caption="caption", label="label", group=None, split=None)
    data = DataParams(source=str(folder), captions="auto", image_root=".", columns=columns)
    source = read_source(data)
    rows = source.rows
    broken = [
        *source.malformed.source_row,
        *rows.source_row[rows[["image", "caption"]].isna().any(axis=1)],
    ]
    if broken:
        raise DataError(f"{source.captions_file}: row {min(broken)} lacks its image or caption")
    ids = {image: _image_id(source.root, image) for image in rows["image"].unique()}
    pairs = rows.assign(image_id=rows["image"].map(ids))
    return EvalSet(pairs, _classes(pairs), source.root)


def _image_id(root: Path, image: str) -> str:
    path = inside(root, image)
    if path is None or not path.is_file():
        raise DataError(
            f"{root / image} is missing or leads out of its set: mend the captions file"
        )
    return sha256_of(path)


def _classes(pairs: pd.DataFrame) -> list[str]:
    return sorted(pairs["label"].dropna().unique())
