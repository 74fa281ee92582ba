"""COCO captions: a JSON of images and annotations, read as a stream.

Only what a row needs is kept of an entry, and nothing that is nested in it but a list of captions:
what else a file holds costs no memory.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import ijson

from pipeline.data.sources.rows import BadRow, Row, split_name, split_names
from pipeline.errors import DataError

LOOKED_AT = 200
"""Annotations among which one must hold a caption."""

MAX_DEPTH = 100
"""Of lists and objects in each other; COCO's own have 6. The parser remembers all that are open."""

LISTS = frozenset({"images", "annotations"})
FIELDS = frozenset({"id", "file_name", "image_id", "caption"})
BROKEN = (ijson.JSONError, UnicodeDecodeError)
_BOM = b"\xef\xbb\xbf"

Seen = Literal["captions", "no captions"]


def look(file: Path) -> Seen | None:
    """What of COCO a JSON file holds: annotations with captions, such without, or (None) neither.

    A file that begins as COCO and then breaks counts as one with captions, so that reading it tells
    what is wrong.
    """
    found: set[str] = set()
    looked, captioned = 0, False
    try:
        for name, entry in _entries(file, LISTS):
            found.add(name)
            if name == "annotations" and entry is not None:
                looked += 1
                captioned = captioned or (isinstance(entry, dict) and "caption" in entry)
            if found == LISTS and (captioned or looked >= LOOKED_AT):
                break
    except (*BROKEN, DataError):
        return ("captions" if captioned or not looked else "no captions") if found else None
    except OSError:
        return None
    if found != LISTS:
        return None
    return "captions" if captioned else "no captions"


def folder_of(file: Path) -> str | None:
    """The folder in which COCO keeps a file's images: captions_train2017.json → train2017."""
    words = [word for word in file.stem.split("_") if split_name(word)]
    return words[-1] if words else None


def read_coco(files: Sequence[Path], *, root: Path) -> Iterator[Row | BadRow]:
    """A row an annotation: image (file_name), caption, split; then one an image without any.

    An image that is not below `root` under its file_name is looked for in the folder there that its
    JSON is named for (`folder_of`). Raises DataError for a file that can't be read, or is nested
    too deep.
    """
    for file, split in zip(files, split_names([file.stem for file in files]), strict=True):
        try:
            yield from _read(file, split, root=root)
        except BROKEN as error:
            yield BadRow(f"{file.name} ends as JSON: {_said(error)}")
        except OSError as error:
            raise DataError(f"{file} can't be read: {error.strerror}") from None


def _read(file: Path, split: str | None, *, root: Path) -> Iterator[Row | BadRow]:
    names: dict[str, str] = {}
    told: set[str] = set()
    folder = folder_of(file)
    folder = folder if folder is not None and (root / folder).is_dir() else None
    wanted = LISTS
    if _begins_with_annotations(file):
        with contextlib.suppress(*BROKEN):  # told where the annotations are read
            for _, entry in _entries(file, frozenset({"images"})):
                yield from _listed(entry, names)
        wanted = frozenset({"annotations"})
    for name, entry in _entries(file, wanted):
        if name == "images":
            yield from _listed(entry, names)
        elif entry is not None:
            image_id = _id(entry, "image_id")
            if image_id is None or image_id not in names:
                yield BadRow(_unlisted(entry, image_id))
                continue
            if image_id not in told:
                told.add(image_id)
                names[image_id] = _path(names[image_id], root, folder)
            yield {"image": names[image_id], "caption": entry.get("caption"), "split": split}
    for image_id, name in names.items():
        if image_id not in told:
            yield {"image": _path(name, root, folder), "caption": None, "split": split}


def _listed(entry: Any, names: dict[str, str]) -> Iterator[BadRow]:
    """Take note of an entry of `images`, or tell what is wrong with it."""
    if entry is None:
        return
    image_id, name = _id(entry, "id"), entry.get("file_name") if isinstance(entry, dict) else None
    if image_id is None or not isinstance(name, str):
        yield BadRow(f"an image without id and file_name: {str(entry)[:80]}")
    elif names.setdefault(image_id, name) != name:
        yield BadRow(f"image {image_id[:40]} is listed twice: as {names[image_id]} and as {name}")


def _id(entry: Any, key: str) -> str | None:
    value = entry.get(key) if isinstance(entry, dict) else None
    return None if value is None else str(value)


def _unlisted(entry: Any, image_id: str | None) -> str:
    if image_id is None:
        return f"an annotation without image_id: {str(entry)[:80]}"
    return f"annotation of image {image_id[:40]}, which is not listed"


def _path(name: str, root: Path, folder: str | None) -> str:
    if folder is None or os.path.isfile(root / name):
        return name
    below = f"{folder}/{name}"
    return below if os.path.isfile(root / below) else name


def _begins_with_annotations(file: Path) -> bool:
    return next((name for name, _ in _entries(file, LISTS)), None) == "annotations"


def _entries(  # noqa: PLR0912 - a branch a kind of token; calls would double the time
    file: Path, wanted: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    """Each entry of the lists at the top that are wanted, after a None where its list begins.

    An entry is what `FIELDS` names of it; one that is no object comes as it is, or as a text.
    """
    depth, top, key, listed, entry = 0, "", "", False, None
    with file.open("rb") as stream:
        if stream.read(len(_BOM)) != _BOM:
            stream.seek(0)
        # Whole numbers that fit no 64 bits crash the parser where it may make any number of them.
        for event, value in ijson.basic_parse(stream, use_float=True):
            if event == "map_key":
                if depth == 3:
                    key = value
                elif depth == 1:
                    top = value
            elif event in ("start_map", "start_array"):
                depth += 1
                if depth == 2:
                    listed = event == "start_array" and top in wanted
                    if listed:
                        yield top, None
                elif depth == 3:
                    entry = {} if event == "start_map" else "a list"
                elif depth == 4 and key == "caption" and isinstance(entry, dict):
                    entry[key] = [] if event == "start_array" else None
                elif depth > MAX_DEPTH:
                    raise DataError(
                        f"{file} holds lists or objects nested more than {MAX_DEPTH} deep, which "
                        "no COCO file does: mend it, or name another file in data.captions"
                    )
            elif event in ("end_map", "end_array"):
                depth -= 1
                if depth == 2 and listed:
                    yield top, entry
            elif depth == 3 and key in FIELDS and isinstance(entry, dict):
                entry[key] = value
            elif depth == 4 and key == "caption" and isinstance(entry, dict):
                if isinstance(entry.get(key), list):
                    entry[key].append(value)
            elif depth == 2 and listed:
                yield top, repr(value)[:80]


def _said(error: Exception) -> str:
    """The error in a line: the parser draws an arrow below the place."""
    said = error.args[0] if error.args else ""
    text = said.decode("utf-8", "backslashreplace") if isinstance(said, bytes) else str(error)
    return " ".join(text.split())[:200]
