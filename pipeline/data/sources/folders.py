"""Folders of images: a folder a class, or a text file beside each image."""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.sources.rows import SPLIT_NAMES, BadRow, Row, is_image, is_unread, unread

MAX_TEXT = 1_000_000


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


def read_class_folders(folder: Path, *, root: str, template: str) -> Iterator[Row | BadRow]:
    """A row an image, its class the name of the folder it lies in.

    Where all folders at the top are called train, val or test, they give the split and the classes
    lie below. Images of a kind that is not read are bad rows; other files are none.
    """
    names = [entry.name for entry in _entries(folder / root) if _is_folder(entry)]
    by_split = bool(names) and all(name.lower() in SPLIT_NAMES for name in names)
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
