"""The sets on which models are compared: the target's test split, and general sets.

A general set is a folder of images and captions in any format that `data.source` takes; labels are
taken where there are any. What a fine-tune forgets shows on it, as long as the fine-tune never saw
it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import sha256_bytes, write_bytes
from pipeline.data.images import inside
from pipeline.data.pairs import Split, read_pairs
from pipeline.data.places import Place, Places, places_of
from pipeline.data.sources.detect import open_source
from pipeline.errors import DataError
from pipeline.params import Columns, DataParams

TARGET = "target"
"""The name of the test split among the sets."""

ANY = Columns(image="auto", caption="auto", label="auto", group=None, split=None)


@dataclass(frozen=True)
class EvalSet:
    """Pairs to score.

    Attributes:
        pairs: image_id, image (its name), caption, label or null.
        classes: the names among which an image's label is looked for; empty without labels.
        places: where each image lies, by its id.
    """

    pairs: pd.DataFrame
    classes: list[str]
    places: Places


def target(clean: Path, source: Path, *, packed: Path, split: Split = "test") -> EvalSet:
    """A split of the clean pairs, among the labels of all splits; empty is a DataError."""
    pairs = read_pairs(clean)
    part = pairs[pairs["split"] == split].reset_index(drop=True)
    if part.empty:
        raise DataError(f"the {split} split is empty: raise clean.split.{split} or add data")
    return EvalSet(part, _classes(pairs), places_of(part, source=source, packed=packed))


def general(folder: Path, *, scratch: Path, template: str) -> dict[str, EvalSet]:
    """The sets below `folder`, by name; none is fine.

    An image that came inside another file is written to `scratch`, under the hash of its bytes; one
    that has a class alone gets the `template` for its caption.
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
    return {f.name: _general(f, scratch=scratch, template=template) for f in folders}


def _general(folder: Path, *, scratch: Path, template: str) -> EvalSet:
    data = DataParams(
        source=str(folder),
        format="auto",
        captions="auto",
        image_root=".",
        caption_template=template,
        columns=ANY,
    )
    parts = []
    known: dict[tuple[Any, ...], str] = {}
    places: Places = {}
    for batch in open_source(data).batches():
        rows = batch.rows
        broken = [
            *batch.malformed["source_row"],
            *rows["source_row"][rows[["image", "caption"]].isna().any(axis=1)],
        ]
        if broken:
            raise DataError(f"{folder}: row {min(broken)} lacks its image or caption")
        ids = [_image_id(row, folder, scratch, known, places) for row in rows.itertuples()]
        parts.append(rows[["image", "caption", "label"]].assign(image_id=ids))
    pairs = pd.concat(parts, ignore_index=True)
    return EvalSet(pairs, _classes(pairs), places)


def _image_id(
    row: Any, folder: Path, scratch: Path, known: dict[tuple[Any, ...], str], places: Places
) -> str:
    """The hash of a row's image; `known` and `places` learn what it is and where it lies."""
    if row.content is not None:
        image_id = sha256_bytes(row.content)
        place = Place(scratch / image_id)
        if not place.path.is_file():
            write_bytes(place.path, row.content)
        places[image_id] = place
        return image_id
    whole = pd.isna(row.offset)
    key = (row.file, None if whole else int(row.offset), None if whole else int(row.length))
    if key not in known:
        path = inside(folder, row.file)
        if path is None or not path.is_file():
            raise DataError(
                f"{folder / row.file} is missing or leads out of its set: mend the captions file"
            )
        place = Place(folder / row.file, *key[1:])
        known[key] = sha256_bytes(place.read())
        places[known[key]] = place
    return known[key]


def _classes(pairs: pd.DataFrame) -> list[str]:
    return sorted(pairs["label"].dropna().unique())
