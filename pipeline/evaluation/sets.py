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
from pipeline.data.sources.batches import Source
from pipeline.errors import DataError
from pipeline.evaluation import described, labels, prompts
from pipeline.evaluation.described import TARGET, Described

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
        unnamed: why labels are left out; None: they are not.
    """

    pairs: pd.DataFrame
    classes: list[str]
    places: Places
    templates: str | list[str] | None = None
    synonyms: Mapping[str, Sequence[str]] | None = None
    unsearched: str | None = None
    unnamed: str | None = None


def target(clean: Path, source: Path, *, packed: Path, split: Split = "test") -> EvalSet:
    """A split of the clean pairs, among the labels of all splits; empty is a DataError."""
    pairs = read_pairs(clean)
    part = pairs[pairs["split"] == split].reset_index(drop=True)
    if part.empty:
        raise DataError(f"the {split} split is empty: raise clean.split.{split} or add data")
    alike = labels.are_captions(pairs["caption"], pairs["label"])
    return EvalSet(
        part,
        _classes(pairs),
        places_of(part, source=source, packed=packed),
        unsearched=labels.OF_CLASSES if alike else None,
    )


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
    found = {}
    for one in described.folders(folder):
        said, source = described.opened(one, template=template)
        found[one.name] = _read(said, source, scratch=scratch, template=template)
    return found


def _read(said: Described, source: Source, *, scratch: Path, template: str) -> EvalSet:
    parts = []
    known: dict[tuple[Any, ...], str] = {}
    places: Places = {}
    split = _split(said, source)
    for batch in source.batches():
        if len(batch.malformed):
            first = batch.malformed.iloc[0]
            raise DataError(f"{said.source}: row {first['source_row']}: {first['value']}")
        rows = batch.rows if split is None else batch.rows[batch.rows["split"] == split]
        lacking = rows["source_row"][rows["image"].isna()]
        if len(lacking):
            raise DataError(f"{said.source}: row {lacking.min()} lacks its image")
        ids = [_image_id(row, said.source, scratch, known, places) for row in rows.itertuples()]
        kept = rows[["source_row", "image", "caption", "label"]]
        parts.append(kept.assign(image_id=ids))
    pairs = pd.concat(parts, ignore_index=True)
    if pairs.empty:
        raise DataError(
            f"{said.folder / described.SET_FILE}: split is {said.split!r}, and no row is of it"
        )
    made = source.format == "class_folders"
    return _whole(pairs, places, said, template=template, made=made)


def _split(said: Described, source: Source) -> str | None:
    """The part that counts; None: all rows. Images of others are not looked at."""
    if said.split is not None or "split" not in source.columns:
        return said.split
    seen: set[str] = set()
    for batch in source.batches():
        seen.update(batch.rows["split"].dropna())
        if described.TEST in seen:
            break
    return next((part for part in (described.TEST, "val") if part in seen), None)


def _whole(
    pairs: pd.DataFrame, places: Places, said: Described, *, template: str, made: bool
) -> EvalSet:
    """The set, if each of its images has what it is measured by; `made`: captions, from classes."""
    row = f"{said.source}: row " + pairs["source_row"].astype(str)
    bare, unlabelled = pairs["caption"].isna(), pairs["label"].isna()
    alone = made or bool(bare.all())
    for lacks, what in (
        (unlabelled & alone, "a label, and has no caption"),
        (bare & (not alone), "its caption"),
    ):
        if lacks.any():
            raise DataError(f"{row[lacks].iloc[0]} lacks {what}")
    numbers = said.names is None and labels.are_numbers(pairs["label"])
    if numbers and alone:
        raise DataError(
            f"{said.folder}: {labels.NUMBERS}: name them in {described.CLASSES_FILE}, a line each "
            f"from label 0 on, or as `classes` in {described.SET_FILE}"
        )
    if numbers:
        pairs = pairs.assign(label=None)
    if said.names is not None:
        pairs = pairs.assign(label=labels.named(pairs["label"], said.names, where=row))
    classes = _classes(pairs) if said.names is None else list(dict.fromkeys(said.names.values()))
    if alone:
        captions = [template.replace("{}", name) for name in pairs["label"]]
        pairs = pairs.assign(caption=captions)
    unsearched = _unsearched(pairs, said, alone=alone)
    _require_answers(pairs, classes, said, searched=unsearched is None)
    return EvalSet(
        pairs[["image", "caption", "label", "image_id"]].reset_index(drop=True),
        classes,
        places,
        said.templates,
        said.synonyms,
        unsearched,
        labels.NUMBERS if numbers else None,
    )


def _unsearched(pairs: pd.DataFrame, said: Described, *, alone: bool) -> str | None:
    """Why captions are not searched; None: they are."""
    if alone:
        return labels.NO_CAPTIONS
    if said.captions == "none":
        return f"its {described.SET_FILE} says so"
    same = said.captions is None and labels.are_captions(pairs["caption"], pairs["label"])
    return labels.OF_CLASSES if same else None


def _require_answers(
    pairs: pd.DataFrame, classes: list[str], said: Described, *, searched: bool
) -> None:
    """DataError unless classes can be told apart, or captions are searched for."""
    other = next((name for name in said.synonyms or {} if name not in classes), None)
    if other is not None:
        raise DataError(
            f"{said.folder / described.SET_FILE}: synonyms names {other!r}, which is no class of "
            "the set"
        )
    try:
        prompts.names(classes, said.synonyms or {})
    except DataError as error:
        raise DataError(f"{said.folder}: {error}") from None
    labelled = bool(pairs["label"].notna().any())
    if not searched and not (labelled and len(classes) > 1):
        found = f"one class, {classes[0]!r}: any answer would be right" if labelled else "no labels"
        raise DataError(
            f"{said.folder}: its captions are not searched, and it has {found}; so there is "
            "nothing to measure: give it captions or classes"
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
