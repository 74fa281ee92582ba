"""samples/params.yaml as typed, frozen sections."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from ruamel.yaml import YAML

from pipeline.params import Positive, Section, Seed

FILE = Path(__file__).with_name("params.yaml")


class ScenesParams(Section):
    """How many pictures, and how many of each defect."""

    seed: Seed
    images: Positive
    dirty_captions: Annotated[int, Field(ge=0)]
    broken_files: Annotated[int, Field(ge=0)]
    copies: Annotated[int, Field(ge=0)]


class TrainingParams(Section):
    """What training from scratch is tuned by; the rest of a fine-tune's params has no effect."""

    epochs: Positive
    batch_size: Positive
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    betas: list[float]
    warmup: float
    grad_clip: float
    precision: str
    freeze_batch_norm: bool
    deterministic: bool
    best_by: str


class BaseModelParams(Section):
    """What the base model sees and how it is trained."""

    seed: Seed
    cpu_threads: Positive
    train_images: Positive
    val_images: Positive
    general_images: Positive
    train_side: Positive
    training: TrainingParams


class SamplesParams(Section):
    """The whole file."""

    scenes: ScenesParams
    base_model: BaseModelParams


def load(path: Path = FILE) -> SamplesParams:
    """Read and check the file; a wrong key or value raises pydantic's ValidationError."""
    return SamplesParams.model_validate(YAML(typ="safe", pure=True).load(path))
