"""Sets of pictures in which it is known what is a copy of what, for benchmarks/near_images.py."""

import hashlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image, ImageEnhance, ImageOps

from pipeline.duplicates.groups import group_of
from samples import params as sample_params
from samples.scenes.make import make

COPIES_EACH = 150


@dataclass(frozen=True)
class Case:
    """A folder of distinct pictures and, of each that is a copy, its kind and its original."""

    folder: Path
    names: list[str]
    copies: dict[str, tuple[str, str]]

    def groups(self) -> dict[str, str]:
        """Of originals and copies, the name of what they all are copies of."""
        pairs = pd.DataFrame([(of, name) for name, (_, of) in self.copies.items()])
        return group_of(self.names, pairs.set_axis(["a", "b"], axis=1))


def sample(folder: Path) -> Case:
    """The sample's distinct pictures that decode, and which of them are copies."""
    source, truth_file = folder / "source", folder / "truth.csv"
    make(sample_params.load().scenes, source, truth_file, processes=2)
    truth = pd.read_csv(truth_file, keep_default_na=False).drop_duplicates("image")
    planted = truth[truth["defect"].str.endswith("_copy")].set_index("image")
    first: dict[str, str] = {}
    stands_for = {}
    for path in sorted((source / "images").iterdir()):
        name = f"images/{path.name}"
        stands_for[name] = first.setdefault(_digest(path), name)
    names = [name for name in first.values() if _opens(source / name)]
    copies = {
        name: (str(planted["defect"][name]).removesuffix("_copy"), stands_for[planted["of"][name]])
        for name in names
        if name in planted.index and stands_for[planted["of"][name]] != name
    }
    return Case(_linked(folder / "sample", source, names), [_flat(name) for name in names], {
        _flat(name): (kind, _flat(of)) for name, (kind, of) in copies.items() if of in names
    })  # fmt: skip


def photographs(folder: Path, real: Path) -> Case:
    """Every distinct photograph, and copies of 150 of them in each of four ways."""
    paths = sorted(real.glob("*/images/*"))
    distinct = list(
        {_digest(path): str(path.relative_to(real)) for path in reversed(paths)}.values()
    )
    to = _linked(folder / "photographs", real, distinct)
    draw = random.Random(2026)
    copies = {}
    for kind, change in PLANTED.items():
        for name in draw.sample(sorted(distinct), COPIES_EACH):
            copy = f"{kind}-{Path(_flat(name)).stem}.jpg"
            (to / copy).write_bytes(change(opened(real / name), draw))
            copies[copy] = (kind, _flat(name))
    return Case(to, [*(_flat(name) for name in distinct), *copies], copies)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _rescaled(picture: Image.Image, draw: random.Random) -> bytes:
    factor = draw.choice((draw.uniform(0.7, 0.95), draw.uniform(1.05, 1.3)))
    size = round(picture.width * factor), round(picture.height * factor)
    return _jpeg(picture.resize(size, Image.Resampling.LANCZOS), 88)


def _cropped(picture: Image.Image, draw: random.Random) -> bytes:
    """Up to 5 % off each side by its own lot: the middle moves."""
    left, top, right, bottom = (draw.uniform(0, 0.05) for _ in range(4))
    (width, height) = picture.size
    box = (width * left, height * top, width * (1 - right), height * (1 - bottom))
    return _jpeg(picture.crop(tuple(round(edge) for edge in box)), 88)


def _brightened(picture: Image.Image, draw: random.Random) -> bytes:
    factor = draw.choice((draw.uniform(0.9, 0.95), draw.uniform(1.05, 1.1)))
    return _jpeg(ImageEnhance.Brightness(picture).enhance(factor), 88)


PLANTED: dict[str, Callable[[Image.Image, random.Random], bytes]] = {
    "reencoded": lambda picture, draw: _jpeg(picture, draw.randint(50, 75)),
    "rescaled": _rescaled,
    "cropped": _cropped,
    "brightness": _brightened,
}


def opened(path: Path) -> Image.Image:
    """The picture in a file, upright, RGB."""
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def _opens(path: Path) -> bool:
    """Whether it is a sound picture of a sane size, as `validate` would find."""
    try:
        with Image.open(path) as picture:
            if max(picture.size) > 10_000 or min(picture.size) < 16:
                return False
            picture.load()
    except (OSError, Image.DecompressionBombError):
        return False
    return True


def _linked(folder: Path, source: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / _flat(name)).symlink_to((source / name).resolve())
    return folder


def _flat(name: str) -> str:
    return name.replace("/", "-")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
