"""samples/params.yaml as typed, frozen sections."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from ruamel.yaml import YAML

from pipeline.params import FinetuneParams, Positive, Section, Seed

FILE = Path(__file__).with_name("params.yaml")


class ScenesParams(Section):
    """How many pictures, and how many of each defect."""

    seed: Seed
    images: Positive
    dirty_captions: Annotated[int, Field(ge=0)]
    broken_files: Annotated[int, Field(ge=0)]
    copies: Annotated[int, Field(ge=0)]


class BaseModelParams(Section):
    """What the base model sees and how it is trained."""

    seed: Seed
    cpu_threads: Positive
    train_images: Positive
    val_images: Positive
    general_images: Positive
    train_side: Positive
    training: FinetuneParams


class SamplesParams(Section):
    """The whole file."""

    scenes: ScenesParams
    base_model: BaseModelParams


def load(path: Path = FILE) -> SamplesParams:
    """Read and check the file; a wrong key or value raises pydantic's ValidationError."""
    return SamplesParams.model_validate(YAML(typ="safe", pure=True).load(path))
