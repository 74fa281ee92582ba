"""What several tests share: small real pictures, and a small real model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import params as params_of
from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.params import Params

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 200), "grey": (90,) * 3}


@pytest.fixture(scope="session")
def defaults() -> Params:
    """params.yaml as it is in git."""
    return params_of.load(Params, ROOT / "params.yaml")


@pytest.fixture
def tiny() -> Clip:
    """An untrained model of the sample's architecture, the same in each test."""
    config = ROOT / "samples" / "base_model" / "scenes-resnet.json"
    return clip_model.create("scenes-resnet", config, seed=0)


@pytest.fixture(scope="session")
def real() -> Path:
    """Real data beside the repository."""
    if not REAL.is_dir():
        pytest.skip("real data is not beside this checkout")
    return REAL


def draw(path: Path, colour: tuple[int, int, int], *, seed: int = 0, size: tuple[int, int]) -> None:
    """A noisy JPEG or PNG of one colour; another seed is another picture."""
    noise = np.random.default_rng(seed).integers(-25, 26, size=(*size[::-1], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A source: 16 pictures of 4 colours, a caption each, in captions.csv."""
    rows = []
    for i in range(16):
        name, colour = list(COLOURS.items())[i % 4]
        draw(tmp_path / "images" / f"{i:02}.jpg", colour, seed=i, size=(48 + i, 40))
        rows.append((f"images/{i:02}.jpg", f"a {name} square, number {i}", name))
    frame = pd.DataFrame(rows, columns=["image", "caption", "label"])
    frame.to_csv(tmp_path / "captions.csv", index=False)
    return tmp_path
