"""Make the base model and the general set: nothing → samples/base_model/out/ and general/.

Run from the repository's root: python -m samples.base_model.make
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import new_folder
from pipeline.clip import device as devices
from pipeline.clip import model as clip_model
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_below
from pipeline.evaluation.retrieval import recalls
from pipeline.registry import bundle
from pipeline.training.auto import Settled
from pipeline.training.finetune import fit
from samples import params as sample_params
from samples.params import BaseModelParams
from samples.scenes.captions import tell
from samples.scenes.files import Picture, Row, write_captions, write_pictures
from samples.scenes.scene import SIDES, make_scene

HERE = Path("samples/base_model")
CONFIG = HERE / "scenes-resnet.json"
OUT = HERE / "out"
GENERAL = HERE / "general" / "base_slice"


PLAIN: dict[str, Any] = {
    "method": "full",
    "lock": {"image": None, "text": None},
    "lora": {"rank": 1, "alpha": 1.0, "targets": ["mlp"], "from_depth": 0},
    "loss": "info_nce",
    "same_label": "negative",
    "patience": None,
    "micro_batch": None,
    "tower_lr": {"image": 1.0, "text": 1.0},
    "layer_decay": 1.0,
    "toward_base": 0.0,
    "distil": 0.0,
    "checkpoint_activations": False,
    "compile": False,
    "ema": None,
    "spike": None,
    "augment": None,
    "max_twins": None,
    "max_truncated": None,
}
"""What training from scratch leaves alone."""


def main() -> None:
    params = sample_params.load().base_model
    write_general(params, GENERAL)
    train_base(params, OUT)


def write_general(params: BaseModelParams, folder: Path) -> None:
    """The general set: pictures of the base's slice that it never saw, as a user's own source."""
    first = params.train_images + params.val_images
    pictures = base_pictures(params, first, params.general_images, sides=SIDES)
    with new_folder(folder) as part:
        # Here, not in other processes: each would import torch first, and be slower in the end.
        write_pictures(part, pictures, processes=1)
        write_captions(part / "captions.csv", rows_of(pictures))


def train_base(params: BaseModelParams, out: Path) -> None:
    """Train the architecture of scenes-resnet.json from scratch, with the pipeline's own loop."""
    device = devices.prepare(
        cpu_threads=params.cpu_threads, deterministic=params.training.deterministic
    )
    clip = clip_model.create(CONFIG.stem, CONFIG, seed=params.seed)
    sides = (params.train_side,)
    train = base_pictures(params, 0, params.train_images, sides=sides)
    val = base_pictures(params, params.train_images, params.val_images, sides=sides)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), [*train, *val], processes=1)
        fitted = fit(
            clip,
            as_pairs(train),
            as_pairs(val),
            crops=Crops(clip, places_below(as_pairs([*train, *val]), Path(folder))),
            params=Settled.model_validate({**PLAIN, **params.training.model_dump()}),
            seed=params.seed,
            recalls=recalls,
            log=lambda scores, step: None,
            device=device,
        )
    best = fitted.history[fitted.best]
    bundle.save(out, clip, record={"params": params.model_dump(), "best": best})


def base_pictures(
    params: BaseModelParams, first: int, count: int, *, sides: tuple[int, ...]
) -> list[Picture]:
    """Pictures `first`, `first` + 1, … of the base's slice; `sides` in pixels."""
    numbers = range(first, first + count)
    scenes = (make_scene(params.seed, number, world="base", sides=sides) for number in numbers)
    return [
        Picture(f"images/{number:05d}.jpg", s) for number, s in zip(numbers, scenes, strict=True)
    ]


def rows_of(pictures: Sequence[Picture]) -> list[Row]:
    """A row for each caption of each picture."""
    return [
        Row(picture.path, caption, picture.scene.label)
        for picture in pictures
        for caption in tell(picture.scene, world="base")
    ]


def as_pairs(pictures: Sequence[Picture]) -> pd.DataFrame:
    """What the training loop reads of a pair: image_id, image, caption; the path is the id."""
    rows = [(row.image, row.image, row.caption) for row in rows_of(pictures)]
    return pd.DataFrame(rows, columns=["image_id", "image", "caption"])


if __name__ == "__main__":
    main()
