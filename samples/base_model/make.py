"""Make the base model and the general set: nothing → samples/base_model/out and general/.

Run from the repository's root: python -m samples.base_model.make
"""

import tempfile
from pathlib import Path

import pandas as pd

from pipeline.clip import device as devices
from pipeline.clip import model as clip_model
from pipeline.clip.pixels import crops_of
from pipeline.registry import bundle
from pipeline.training.finetune import fit
from samples import params as sample_params
from samples.params import BaseModelParams
from samples.scenes.folder import write_folder

HERE = Path("samples/base_model")
OUT = HERE / "out"
GENERAL = HERE / "general" / "base_slice"
ARCHITECTURE = "scenes-resnet"


def main() -> None:
    params = sample_params.load().base_model
    with tempfile.TemporaryDirectory() as folder:
        train, val = draw(params, Path(folder), general=GENERAL)
        train_base(params, train, val, root=Path(folder))


def draw(params: BaseModelParams, folder: Path, *, general: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    ...


if __name__ == "__main__":
    main()
