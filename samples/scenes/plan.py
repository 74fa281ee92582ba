"""Which picture and which row gets which defect: all of it decided before anything is drawn."""

import random
from dataclasses import dataclass, replace

from samples.params import ScenesParams
from samples.scenes import damage
from samples.scenes.captions import one_caption, tell
from samples.scenes.damage import BROKEN, COPIES, Treatment
from samples.scenes.dirt import DIRT
from samples.scenes.files import Picture, Row
from samples.scenes.scene import lot, make_scene
from samples.scenes.words import SliceName

WORLD: SliceName = "sample"

Truth = tuple[int, str, str, str, str]
"""source_row, image, defect, detail, of."""


@dataclass(frozen=True)
class Entry:
    """A row of captions.csv beside the truth about it; no `defect`, no truth."""

    row: Row
    picture: Picture
    defect: str = ""
    detail: str = ""
    of: str = ""


def plan(params: ScenesParams) -> tuple[list[Picture], list[Row], list[Truth]]:
    """The pictures to draw, the rows of captions.csv and those of truth.csv.

    `detail` is, for a dirty caption, what a cleaner should leave; for a wrong caption, the right
    one; for files and copies, what was done. `of` is the image of which a picture is a copy, or
    whose caption a row has.
    """
    pictures = _pictures(params)
    entries = _dirtied([e for p in pictures for e in _entries(params, p)], params)
    truth = [
        (number, entry.picture.path, entry.defect, entry.detail, entry.of)
        for number, entry in enumerate(entries, start=1)
        if entry.defect
    ]
    return pictures, [entry.row for entry in entries], truth


def _pictures(params: ScenesParams) -> list[Picture]:
    treatments = _treatments(params)
    intact = [index for index, treatment in enumerate(treatments) if treatment == "none"]
    pictures = []
    for index, treatment in enumerate(treatments):
        draw = lot(params.seed, "picture", index)
        source = draw.choice(intact) if treatment in COPIES else index
        pictures.append(
            Picture(
                path=_path(index),
                scene=make_scene(params.seed, source, world=WORLD),
                treatment=treatment,
                amount=damage.amount(treatment, draw),
                of=_path(source) if treatment in COPIES else "",
            )
        )
    return pictures


def _treatments(params: ScenesParams) -> list[Treatment]:
    """A treatment for each picture, scattered over the set."""
    planted = [kind for kind in BROKEN for _ in range(params.broken_files)]
    planted += [kind for kind in COPIES for _ in range(params.copies)]
    none: list[Treatment] = ["none"] * (params.images - len(planted))
    treatments = planted + none
    lot(params.seed, "treatments").shuffle(treatments)
    return treatments


def _path(index: int) -> str:
    return f"images/{index:05d}.jpg"


def _entries(params: ScenesParams, picture: Picture) -> list[Entry]:
    """The rows of one picture, before any caption is dirtied."""
    scene, treatment = picture.scene, picture.treatment
    told = tell(scene, world=WORLD)
    if treatment == "none":
        return [Entry(Row(picture.path, text, scene.label), picture) for text in told]
    if treatment not in COPIES:
        detail = damage.describe(treatment, picture.amount)
        return [
            Entry(Row(picture.path, text, scene.label), picture, treatment, detail) for text in told
        ]
    draw = lot(params.seed, "copy", picture.path)
    same = draw.random() < 0.5
    caption = draw.choice(told)
    while not same and caption in told:
        caption = one_caption(scene, draw, world=WORLD)
    if treatment == "exact_copy":
        detail = "same caption" if same else "other caption"
    else:
        detail = damage.describe(treatment, picture.amount)
    return [Entry(Row(picture.path, caption, scene.label), picture, treatment, detail, picture.of)]


def _dirtied(entries: list[Entry], params: ScenesParams) -> list[Entry]:
    """Plant the same number of each kind of dirty caption in rows that are sound so far."""
    draw = lot(params.seed, "captions")
    sound = [number for number, entry in enumerate(entries) if not entry.defect]
    kinds = [*DIRT, "wrong_caption", "repeated_caption"]
    chosen = draw.sample(sound, len(kinds) * params.dirty_captions)
    kind_of = dict(zip(chosen, kinds * params.dirty_captions, strict=True))
    result = []
    for number, entry in enumerate(entries):
        kind = kind_of.get(number)
        if kind is None:
            result.append(entry)
        elif kind == "repeated_caption":
            again = replace(entry, defect=kind, detail=entry.row.caption, of=entry.picture.path)
            result += [entry, again]
        elif kind == "wrong_caption":
            result.append(_wrong(entry, [entries[i] for i in sound], draw))
        else:
            scene = entry.picture.scene
            dirty = DIRT[kind](entry.row.caption, scene, lot(params.seed, "dirt", number))
            row = replace(entry.row, caption=dirty.text)
            result.append(replace(entry, row=row, defect=kind, detail=dirty.clean))
    return result


def _wrong(entry: Entry, others: list[Entry], draw: random.Random) -> Entry:
    """The row with the caption of a picture of another colour and another shape."""
    mine = entry.picture.scene
    while True:
        other = draw.choice(others)
        scene = other.picture.scene
        if scene.colour != mine.colour and scene.shape != mine.shape:
            row = replace(entry.row, caption=other.row.caption)
            return replace(
                entry,
                row=row,
                defect="wrong_caption",
                detail=entry.row.caption,
                of=other.picture.path,
            )
