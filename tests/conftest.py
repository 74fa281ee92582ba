"""What several tests share: small real pictures, and a small real model."""

from pathlib import Path

import hypothesis
import pandas as pd
import pytest
import torch

from pipeline import params as params_of
from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.params import Params
from tests.drawing import COLOURS, ROOT, draw

# How long an example takes says something of the machine, which may be busy, and not of the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

LONGEST_FIRST = ("test_pipeline.py", "test_cases.py")
"""Files that take minutes: several processes end together only if these begin first."""

REAL = ROOT.parent / "shared" / "real"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files keep together and tests keep their order; the longest files come first."""
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`pytest -m gpu` is one command on any machine."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU here: torch sees no CUDA device")


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
