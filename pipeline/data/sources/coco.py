"""COCO captions: a JSON of images and annotations, read as a stream."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import ijson

from pipeline.data.sources.rows import BadRow, Row, split_name
from pipeline.errors import DataError


def is_coco(file: Path) -> bool:
    """Whether a JSON file has `images` and `annotations` at its top."""
    found = set()
    try:
        with file.open("rb") as stream:
            for prefix, event, value in ijson.parse(stream):
                if event == "map_key" and prefix == "":
                    found.add(value)
                if {"images", "annotations"} <= found:
                    return True
    except (ijson.JSONError, OSError, UnicodeDecodeError, RecursionError):
        return False
    return False


def read_coco(files: Sequence[Path]) -> Iterator[Row | BadRow]:
    """A row an annotation: image (file_name), caption, split; then one an image without any."""
    for file in files:
        split = split_name(file.stem) if len(files) > 1 else None
        try:
            yield from _read(file, split)
        except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
            yield BadRow(f"{file.name} ends as JSON: {error}")
        except OSError as error:
            raise DataError(f"{file} can't be read: {error.strerror}") from None


def _read(file: Path, split: str | None) -> Iterator[Row | BadRow]:
    names: dict[str, str] = {}
    with file.open("rb") as stream:
        for image in ijson.items(stream, "images.item", use_float=True):
            if isinstance(image, dict) and isinstance(image.get("file_name"), str):
                names[str(image.get("id"))] = image["file_name"]
            else:
                yield BadRow(f"an image without id and file_name: {str(image)[:80]}")
    told: set[str] = set()
    with file.open("rb") as stream:
        for note in ijson.items(stream, "annotations.item", use_float=True):
            if not isinstance(note, dict):
                yield BadRow(f"no annotation: {str(note)[:80]}")
                continue
            image_id = str(note.get("image_id"))
            if image_id not in names:
                yield BadRow(f"annotation of image {image_id[:40]}, which is not listed")
                continue
            told.add(image_id)
            yield {"image": names[image_id], "caption": note.get("caption"), "split": split}
    for image_id, name in names.items():
        if image_id not in told:
            yield {"image": name, "caption": None, "split": split}
