"""Folders of images: a folder a class, or a text file beside each image."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.data.sources.listing import listed
from pipeline.data.sources.rows import SPLIT_NAMES, BadRow, Row, is_image, is_unread, unread
from pipeline.errors import DataError

MAX_TEXT = 1_000_000

MAY_HOLD_CAPTIONS = tuple(
    f"{suffix}{packed}"
    for suffix in (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".xlsx", ".xml")
    for packed in ("", ".gz", ".zip")
)
"""Files that class folders leave alone, and that somebody may mean all the same."""

SHOWN = 3


def walk(folder: Path) -> Iterator[str]:
    """Paths of the files below `folder`, sorted, hidden ones left out; links are not followed."""
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from (f"{entry.name}/{below}" for below in walk(Path(entry.path)))
        else:
            yield entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(seen, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A folder and no link to one, which could lead round in a circle."""
    return entry.is_dir(follow_symlinks=False)


def left_alone(folder: Path) -> str:
    """Files near the top that may hold captions, as a text; empty where there are none."""
    names = listed(folder, MAY_HOLD_CAPTIONS)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def require_classes(folder: Path, root: str) -> None:
    """Raise DataError for folders that are no classes: one of images, and beside it what says more.

    A single folder of images, with a file of captions that no reader takes, would else be a data
    set in which each picture has the same caption, the folder's name.
    """
    if _has_two_classes(folder / root):
        return
    left = left_alone(folder)
    if left:
        raise DataError(
            f"{folder} has no two folders of images, which would be classes, and no captions file "
            f"that is read; it holds {left}. If captions are in there: data.captions names a .csv, "
            ".tsv, .jsonl or .parquet in a folder below, and any other is to be written as one of "
            "these. If not: set data.format to class_folders"
        )


def _has_two_classes(root: Path) -> bool:
    tops = [entry for entry in _entries(root) if _is_folder(entry)]
    if _are_parts(tops):
        tops = [below for top in tops for below in _entries(Path(top.path)) if _is_folder(below)]
    classes: set[str] = set()
    for top in tops:
        if top.name not in classes and any(map(_is_any_image, walk(Path(top.path)))):
            classes.add(top.name)
        if len(classes) == 2:
            return True
    return False


def _is_any_image(path: str) -> bool:
    return is_image(path) or is_unread(path)


def _are_parts(folders: Sequence[os.DirEntry[str]]) -> bool:
    return bool(folders) and all(folder.name.lower() in SPLIT_NAMES for folder in folders)


def read_class_folders(folder: Path, *, root: str, template: str) -> Iterator[Row | BadRow]:
    """A row an image, its class the name of the folder it lies in.

    Where all folders at the top are called train, val or test, they give the split and the classes
    lie below. Images of a kind that is not read are bad rows; other files are none.
    """
    by_split = _are_parts([entry for entry in _entries(folder / root) if _is_folder(entry)])
    for path in walk(folder / root):
        if is_unread(path):
            yield unread(path)
        if not is_image(path):
            continue
        parts = path.split("/")
        split = SPLIT_NAMES.get(parts[0].lower()) if by_split else None
        parts = parts[1:] if by_split else parts
        label = parts[0].replace("_", " ").replace("-", " ").strip() if len(parts) > 1 else ""
        yield {
            "image": path,
            "caption": template.replace("{}", label) if label else None,
            "label": label or None,
            "split": split,
        }


def read_sidecar(folder: Path, *, root: str) -> Iterator[Row | BadRow]:
    """A row an image, its captions the lines of the .txt of the same name beside it.

    Images of a kind that is not read, and texts without an image, are bad rows.
    """
    waiting: set[str] = set()
    images: set[str] = set()
    for path in walk(folder / root):
        stem = path.rpartition(".")[0]
        if path.lower().endswith(".txt"):
            waiting.add(stem)
        elif is_image(path):
            images.add(stem)
            yield _beside(folder / root, path, stem)
        elif is_unread(path):
            images.add(stem)
            yield unread(path)
    for stem in sorted(waiting - images):
        yield BadRow(f"{stem}.txt has no image beside it")


def _beside(root: Path, path: str, stem: str) -> Row | BadRow:
    file = next((root / f"{stem}{s}" for s in (".txt", ".TXT") if _is_file(root, stem + s)), None)
    if file is None:
        return {"image": path, "caption": None}
    with file.open("rb") as stream:
        content = stream.read(MAX_TEXT + 1)
    if len(content) > MAX_TEXT:
        return BadRow(f"{stem}.txt has more than {MAX_TEXT} bytes")
    lines = content.decode("utf-8-sig", errors="surrogateescape").splitlines()
    return {"image": path, "caption": [line for line in lines if line.strip()]}


def _is_file(root: Path, name: str) -> bool:
    """A file, and no link: one could lead out of the source."""
    path = root / name
    return path.is_file() and not path.is_symlink()
