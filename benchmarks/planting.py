"""Defects planted on a data set that is sound, for benchmarks/defects.py."""

import io
import random
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageOps

from samples.scenes.damage import NOT_FOUND
from samples.scenes.dirt import DIRT
from samples.scenes.scene import make_scene

TEXT = ("html_tags", "html_entities", "mojibake", "url", "email", "hashtags", "boilerplate")
"""What is planted of samples/scenes/dirt.py."""

UNTIDY = re.compile(r"\s[,.!?](?:\s|$)")
"""A space before a mark: such a caption is dirty as it is, and cleaning rightly mends that too."""

Damage = Callable[[bytes, random.Random], bytes | None]


def _opened(content: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")


def _saved(picture: Image.Image, kind: str = "JPEG", **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _huge(content: bytes, _: random.Random) -> bytes:
    """A PNG of few bytes whose header announces 60,000 × 60,000 pixels."""

    whole = _saved(_opened(content).resize((32, 32)), "PNG")
    head = whole[12:16] + struct.pack(">II", 60_000, 60_000) + whole[24:29]
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def _truncated(content: bytes, draw: random.Random) -> bytes:
    whole = _saved(_opened(content), quality=90)
    return whole[: round(len(whole) * draw.uniform(0.3, 0.8))]


def _rescaled(content: bytes, draw: random.Random) -> bytes:
    picture = _opened(content)
    factor = draw.uniform(0.6, 0.9)
    size = round(picture.width * factor), round(picture.height * factor)
    return _saved(picture.resize(size, Image.Resampling.LANCZOS), quality=88)


def _cropped(content: bytes, draw: random.Random) -> bytes:
    """Up to 5 % of each side, more off one end than off the other."""
    picture = _opened(content)
    cut = [draw.uniform(0.01, 0.05) * side for side in picture.size]
    left, top = (draw.random() * c for c in cut)
    box = (left, top, picture.width - cut[0] + left, picture.height - cut[1] + top)
    return _saved(picture.crop(tuple(round(edge) for edge in box)), quality=88)


def _brightened(content: bytes, draw: random.Random) -> bytes:
    factor = 1 + draw.choice((-1, 1)) * draw.uniform(0.05, 0.1)
    return _saved(ImageEnhance.Brightness(_opened(content)).enhance(factor), quality=88)


FILES: dict[str, Damage] = {
    "truncated_jpeg": _truncated,
    "zero_bytes": lambda *_: b"",
    "text_as_jpg": lambda *_: NOT_FOUND.encode(),
    "one_pixel": lambda content, _: _saved(_opened(content).resize((1, 1))),
    "huge_dimensions": _huge,
    "missing_file": lambda *_: None,
    "png_as_jpg": lambda content, _: _saved(_opened(content), "PNG"),
}
COPIES: dict[str, Damage] = {
    "exact_copy": lambda content, _: content,
    "reencoded_copy": lambda content, draw: _saved(_opened(content), quality=draw.randint(50, 75)),
    "rescaled_copy": _rescaled,
    "cropped_copy": _cropped,
    "brightness_copy": _brightened,
}


def plant(rows: pd.DataFrame, pictures: Path, folder: Path, *, each: int) -> pd.DataFrame:
    """Write a source to `folder`: `rows` (image, caption, label), with `each` of every defect.

    Broken files and copies are new rows under new names, so that every original stays; dirty
    captions take the place of clean ones (never of one dirty as it is). Returns the truth:
    source_row, image, defect, detail, of.
    """
    draw = random.Random(0)
    (folder / "images").mkdir(parents=True)
    for name in rows["image"].unique():
        shutil.copy(pictures / name, folder / "images" / name)
    table = rows[["image", "caption", "label"]].assign(defect="", detail="", of="")
    order = np.random.default_rng(0).permutation(len(table))
    number = 0
    for kind in TEXT:
        for _ in range(each):
            place = int(order[number % len(order)])
            number += 1
            caption = str(table.loc[place, "caption"])
            if table.loc[place, "defect"] or UNTIDY.search(caption):
                continue
            dirty = DIRT[kind](caption, make_scene(0, number, world="sample"), draw)
            table.loc[place, ["caption", "defect", "detail"]] = [dirty.text, kind, dirty.clean]
    added = []
    for kind, damage in {**FILES, **COPIES}.items():
        for i in range(each):
            row = rows.iloc[draw.randrange(len(rows))]
            content = damage((pictures / row["image"]).read_bytes(), draw)
            name = f"{kind}-{i}.jpg"
            if content is not None:
                (folder / "images" / name).write_bytes(content)
            added.append((name, row["caption"], row["label"], kind, "", row["image"]))
    table = pd.concat([table, pd.DataFrame(added, columns=list(table.columns))], ignore_index=True)
    table["source_row"] = range(1, len(table) + 1)
    table["image"] = "images/" + table["image"]
    table["of"] = table["of"].map(lambda name: f"images/{name}" if name else "")
    table[["image", "caption", "label"]].to_csv(folder / "captions.csv", index=False)
    return table.loc[table["defect"] != "", ["source_row", "image", "defect", "detail", "of"]]
