"""Make the base model and the general set: nothing → samples/base_model/out/ and general/.

Run from the repository's root: python -m samples.base_model.make
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.artifacts import new_folder
from pipeline.clip import device as devices
from pipeline.clip import model as clip_model
from pipeline.clip.pixels import crops_of
from pipeline.registry import bundle
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


def main() -> None:
    """Held-out pictures of the base's slice become the general set; the others train it."""
    params = sample_params.load().base_model
    write_general(params, GENERAL)
    train_base(params, OUT)


def write_general(params: BaseModelParams, folder: Path) -> None:
    """The general set, in the format of a user's own source."""
    first = params.train_images + params.val_images
    pictures = draw(params, first, params.general_images, sides=SIDES)
    with new_folder(folder) as part:
        write_pictures(part, pictures, processes=1)
        write_captions(part / "captions.csv", rows(pictures))


def train_base(params: BaseModelParams, out: Path) -> None:
    """Train the architecture of scenes-resnet.json from scratch, with the pipeline's own loop."""
    device = devices.prepare(cpu_threads=params.cpu_threads)
    clip = clip_model.create(CONFIG.stem, CONFIG, seed=params.seed)
    sides = (params.train_side,)
    train = draw(params, 0, params.train_images, sides=sides)
    val = draw(params, params.train_images, params.val_images, sides=sides)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), [*train, *val], processes=1)
        pairs = pd.concat([as_pairs(train), as_pairs(val)])
        crops = crops_of(clip, pairs, Path(folder))
        result = fit(
            clip,
            as_pairs(train),
            as_pairs(val),
            crops=crops,
            params=params.training,
            seed=params.seed,
            recalls=lambda *_: {"mean_r1": 0.0},
            log=lambda scores, step: None,
            device=device,
        )
        for h in result.history:
            print(h)
    bundle.save(out, clip, record={})


def draw(
    params: BaseModelParams, first: int, count: int, *, sides: tuple[int, ...]
) -> list[Picture]:
    """Pictures `first` … of the base's slice."""
    scenes = (
        make_scene(params.seed, i, world="base", sides=sides) for i in range(first, first + count)
    )
    return [Picture(f"images/{first + i:05d}.jpg", scene) for i, scene in enumerate(scenes)]


def rows(pictures: Sequence[Picture]) -> list[Row]:
    return [
        Row(p.path, caption, p.scene.label)
        for p in pictures
        for caption in tell(p.scene, world="base")
    ]


def as_pairs(pictures: Sequence[Picture]) -> pd.DataFrame:
    """What the training loop reads of a pair; a picture's path is its id."""
    return pd.DataFrame(
        [(r.image, r.image, r.caption) for r in rows(pictures)],
        columns=["image_id", "image", "caption"],
    )


if __name__ == "__main__":
    main()
