"""Pairs and images as validate hands them on, with the columns that a profile reads."""

import numpy as np
import pandas as pd

from pipeline.validation.profile import ProfileBuilder
from samples.scenes.captions import tell
from samples.scenes.scene import make_scene


def pairs(*rows, **columns):
    """A row for each (image, caption, label)."""
    frame = pd.DataFrame(rows, columns=["image_id", "caption", "label"]).astype("str")
    label = pd.Series([label for _, _, label in rows], dtype="str")
    return frame.assign(label=label, split=pd.Series([None] * len(rows), dtype="str"), **columns)


def images(ids, *, width=64, height=48, brightness=100.0, form="JPEG"):
    return pd.DataFrame(
        {
            "image_id": list(ids),
            "width": np.broadcast_to(width, len(ids)).astype(np.int32),
            "height": np.broadcast_to(height, len(ids)).astype(np.int32),
            "brightness": np.broadcast_to(brightness, len(ids)).astype(np.float32),
            "format": form,
        }
    )


def scenes(count):
    """Captions of `count` scenes of the sample, and made-up facts of their pictures."""
    rng = np.random.default_rng(0)
    drawn = [make_scene(0, index, world="sample") for index in range(count)]
    ids = [f"{index:064x}" for index in range(count)]
    rows = [
        (id_, caption, scene.shape)
        for id_, scene in zip(ids, drawn, strict=True)
        for caption in tell(scene, world="sample")
    ]
    pictures = images(
        ids,
        width=rng.choice([96, 128, 160, 224, 300], count),
        height=rng.choice([96, 128, 160, 224], count),
        brightness=np.clip(rng.normal(120, 40, count), 0, 255),
    )
    return pairs(*rows), pictures


def halves(table, pictures, *, images, seed):
    """Two samples of `images` pictures each, none in both, with all their captions."""
    ids = np.random.default_rng(seed).permutation(pictures["image_id"].to_numpy())
    return [
        (table[table["image_id"].isin(part)], pictures[pictures["image_id"].isin(part)])
        for part in (ids[:images], ids[images : 2 * images])
    ]


def profile(table, pictures):
    builder = ProfileBuilder()
    builder.add(table, pictures)
    return builder.result()
