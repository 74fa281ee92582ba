from pathlib import Path

import pytest

from pipeline.doctor import settings as settings_of
from pipeline.doctor.seen import Sample
from pipeline.doctor.settings import Settings
from tests.doctor.cases import SAMPLE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings() -> Settings:
    """params.yaml as it is in git."""
    read, problems = settings_of.read(ROOT / "params.yaml")
    assert problems == []
    return read


@pytest.fixture
def sample() -> Sample:
    """A source of 1,000 pictures with a caption each."""
    return SAMPLE
