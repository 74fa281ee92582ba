"""Pictures and captions → a folder as a user would bring it."""

import csv
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from samples.scenes.damage import Treatment, content
from samples.scenes.scene import Scene

CHUNK = 50


@dataclass(frozen=True)
class Picture:
    """A file to write: what it shows, what was done to it and how much; `of` where it is a copy."""

    path: str
    scene: Scene
    treatment: Treatment = "none"
    amount: float = 0.0
    of: str = ""


@dataclass(frozen=True)
class Row:
    """A row of captions.csv."""

    image: str
    caption: str
    label: str


def write_pictures(root: Path, pictures: Sequence[Picture], *, processes: int) -> None:
    """Write every picture below `root`; each is drawn by its own lot, so who draws it is the same.

    Processes are spawned, not forked: a fork would copy the locks of threads that it does not have.
    """
    for folder in sorted({(root / picture.path).parent for picture in pictures}):
        folder.mkdir(parents=True, exist_ok=True)
    chunks = [(root, pictures[i : i + CHUNK]) for i in range(0, len(pictures), CHUNK)]
    if processes == 1:
        for chunk in chunks:
            _write_chunk(chunk)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for _ in pool.map(_write_chunk, chunks):
            pass


def _write_chunk(chunk: tuple[Path, Sequence[Picture]]) -> None:
    root, pictures = chunk
    for picture in pictures:
        file = content(picture.scene, picture.treatment, picture.amount)
        if file is not None:
            (root / picture.path).write_bytes(file)


def write_captions(path: Path, rows: Iterable[Row]) -> None:
    """Write captions.csv."""
    write_csv(path, ("image", "caption", "label"), ((r.image, r.caption, r.label) for r in rows))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a UTF-8 CSV with Unix line ends."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
