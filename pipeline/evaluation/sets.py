"""The sets on which models are compared: the target's test split, and general sets.

A general set is a folder of images and captions in any format that `data.source` takes, and may
say more of itself (described.py). What a fine-tune forgets shows on it, as long as the fine-tune
never saw it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import sha256_bytes, write_bytes
from pipeline.data.images import inside
from pipeline.data.pairs import Split, read_pairs
from pipeline.data.places import Place, Places, places_of
from pipeline.errors import DataError
from pipeline.evaluation import described, prompts
from pipeline.evaluation.described import TARGET, Described

NO_CAPTIONS = "its images have classes and no captions"


__all__ = ["TARGET", "EvalSet", "general", "target", "trained_on"]


@dataclass(frozen=True)
class EvalSet:
    """Pairs to score.

    Attributes:
        pairs: image_id, image (its name), caption, label or null.
        classes: the names among which an image's label is looked for; empty without labels.
        places: where each image lies, by its id.
        templates, synonyms: the set's own; None: those of params.yaml.
        unsearched: why captions are not searched; None: they are.
    """

    pairs: pd.DataFrame
    classes: list[str]
    places: Places
    templates: str | list[str] | None = None
    synonyms: Mapping[str, Sequence[str]] | None = None
    unsearched: str | None = None


def target(clean: Path, source: Path, *, packed: Path, split: Split = "test") -> EvalSet:
    """A split of the clean pairs, among the labels of all splits; empty is a DataError."""
    pairs = read_pairs(clean)
    part = pairs[pairs["split"] == split].reset_index(drop=True)
    if part.empty:
        raise DataError(f"the {split} split is empty: raise clean.split.{split} or add data")
    return EvalSet(part, _classes(pairs), places_of(part, source=source, packed=packed))


def trained_on(clean: Path) -> frozenset[str]:
    """Ids of the images of the train split."""
    pairs = read_pairs(clean)
    return frozenset(pairs.loc[pairs["split"] == "train", "image_id"])


def general(folder: Path, *, scratch: Path, template: str) -> dict[str, EvalSet]:
    """The sets below `folder`, by name; none is fine.

    An image that came inside another file is written to `scratch`, under the hash of its bytes; one
    that has a class alone gets the `template` for its caption.
    Raises DataError when a set can't be read, or a row of it lacks image or caption: a set that
    measures must be whole.
    """
    folders = described.folders(folder)
    return {f.name: _general(f, scratch=scratch, template=template) for f in folders}


def _general(folder: Path, *, scratch: Path, template: str) -> EvalSet:
    said, source = described.opened(folder, template=template)
    parts = []
    known: dict[tuple[Any, ...], str] = {}
    places: Places = {}
    for batch in source.batches():
        if len(batch.malformed):
            first = batch.malformed.iloc[0]
            raise DataError(f"{said.source}: row {first['source_row']}: {first['value']}")
        rows = _counted(batch.rows, said)
        lacking = rows["source_row"][rows["image"].isna()]
        if len(lacking):
            raise DataError(f"{said.source}: row {lacking.min()} lacks its image")
        ids = [_image_id(row, said.source, scratch, known, places) for row in rows.itertuples()]
        kept = rows[["source_row", "image", "caption", "label", "split"]]
        parts.append(kept.assign(image_id=ids))
    pairs = _of_split(pd.concat(parts, ignore_index=True), said)
    own = source.format != "class_folders"
    return _whole(_named(pairs, said), places, said, template=template, own=own)


def _counted(rows: pd.DataFrame, said: Described) -> pd.DataFrame:
    """Rows whose split may count: images of others are not looked at."""
    return rows if said.split is None else rows[rows["split"] == said.split]


def _of_split(pairs: pd.DataFrame, said: Described) -> pd.DataFrame:
    """The part that counts: the one that the set names, `test` where there is one, or all."""
    if pairs.empty:
        raise DataError(
            f"{said.source / described.SET_FILE}: split is {said.split!r}, and no row is of it"
        )
    test = pairs["split"] == "test"
    return pairs[test] if said.split is None and test.any() else pairs


def _named(pairs: pd.DataFrame, said: Described) -> pd.DataFrame:
    """Labels as the names of their classes, where the set gives names to numbers."""
    if said.names is None:
        return pairs
    names = {**{name: name for name in said.names.values()}, **said.names}
    label = pairs["label"].map({text: _plain(text) for text in pairs["label"].dropna().unique()})
    unknown = label.notna() & ~label.isin(names)
    if unknown.any():
        row = pairs[unknown].iloc[0]
        raise DataError(
            f"{said.source}: row {row['source_row']} has the label {row['label']!r}, and the set "
            f"names {len(said.names)} classes, {next(iter(said.names))!r} to "
            f"{list(said.names)[-1]!r}: mend the label or the names"
        )
    return pairs.assign(label=label.map(names))


def _plain(label: str) -> str:
    """A number as it is counted: `007`, `7.0` are 7."""
    whole = label.removesuffix(".0")
    return str(int(whole)) if whole.isascii() and whole.isdigit() else label


def _whole(
    pairs: pd.DataFrame, places: Places, said: Described, *, template: str, own: bool
) -> EvalSet:
    """The set, if each of its images has what it is measured by; `own`: captions of its own."""
    folder = said.source
    classes = _classes(pairs) if said.names is None else list(said.names.values())
    bare = pairs["caption"].isna()
    if bare.any() and not (bare & pairs["label"].notna()).all():
        row = pairs[bare].iloc[0]
        raise DataError(f"{folder}: row {row['source_row']} lacks its caption")
    if bare.all() or not own:
        captions = [template.replace("{}", name) for name in pairs["label"]]
        pairs, own = pairs.assign(caption=captions), False
    if classes:
        try:
            prompts.names(classes, said.synonyms or {})
        except DataError as error:
            raise DataError(f"{folder}: {error}") from None
    if not own and len(classes) < 2:
        raise DataError(
            f"{folder}: its images have no captions, and it has one class, {classes[0]!r}: any "
            "answer would be right, so there is nothing to measure; give it captions or classes"
        )
    columns = ["image", "caption", "label", "image_id"]
    return EvalSet(
        pairs[columns].reset_index(drop=True),
        classes,
        places,
        said.templates,
        said.synonyms,
        None if own else NO_CAPTIONS,
    )


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
