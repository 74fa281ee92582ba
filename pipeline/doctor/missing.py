"""Why pictures are missing: where the first of them lies, and which setting would lead there."""

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

NAMES = 300_000
"""Files among which a missing picture is looked for."""


class Found(NamedTuple):
    """A file that a missing name may mean: its path from the source, and what differs."""

    path: str
    image_root: str | None
    suffix: str | None


def search(root: Path, name: str) -> Found | None:
    """Where below `root` the file lies that a row calls `name`; None: nowhere near the top.

    `image_root` is set where that folder alone was missing before `name`, and `suffix` where the
    name's ending was. Else the longest common end of both paths decides.
    """
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/"]
    best: tuple[int, str] | None = None
    seen = 0
    for folder, folders, files in os.walk(root):
        folders.sort()
        seen += len(files)
        for file in files:
            stem, suffix = os.path.splitext(file)
            if parts and (file == parts[-1] or (stem == parts[-1] and suffix)):
                path = Path(folder, file).relative_to(root).as_posix()
                count = _common(path, parts)
                if best is None or count > best[0]:
                    best = (count, path)
                if count == len(parts):
                    return _found(path, parts)
        if seen > NAMES:
            break
    return None if best is None else _found(best[1], parts)


def _common(path: str, parts: list[str]) -> int:
    """How many of the last parts both have; an ending may lack in `parts`."""
    own = list(PurePosixPath(path).parts)
    own[-1] = parts[-1]
    count = 0
    for mine, theirs in zip(reversed(own), reversed(parts), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _found(path: str, parts: list[str]) -> Found:
    own = PurePosixPath(path)
    suffix = own.suffix if own.name != parts[-1] else None
    whole = _common(path, parts) == len(parts)
    before = PurePosixPath(*own.parts[: len(own.parts) - len(parts)]).as_posix()
    return Found(path, before if whole and not suffix else None, suffix)


def cause(root: Path, name: str, *, image_root: str) -> tuple[str, str]:
    """What is wrong with a missing picture's name, and the remedy."""
    below = name
    if image_root != "." and name.startswith(f"{image_root}/"):
        below = name.removeprefix(f"{image_root}/")
    found = search(root, below)
    if found is None:
        return (
            f"the first, {name}, is nowhere below {root}",
            "set data.source to a folder that holds captions and pictures, or "
            "data.columns.image to another column",
        )
    if found.image_root is not None and found.image_root != image_root:
        return (
            f"the first, {below}, lies at {found.path}",
            f"data.image_root: {found.image_root}",
        )
    if found.suffix is not None:
        return (
            f"the first, {below}, seems to be {found.path}",
            f"write the names with their ending, {found.suffix}",
        )
    return (
        f"the first, {below}, seems to be {found.path}",
        "mend the names, or data.image_root, so that both together lead there",
    )
