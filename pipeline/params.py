"""params.yaml as typed, frozen sections.

Every default stands in params.yaml and none here, so that the file shows all there is to set and
DVC sees every change. A stage asks for the sections that it uses; the whole file is checked all
the same, so that a mistake anywhere shows before any work is done.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline import mistakes, paths
from pipeline.errors import ConfigError
from pipeline.sections import (
    AugmentParams,
    CardParams,
    CleanParams,
    Columns,
    DataParams,
    DriftParams,
    Format,
    LongCaptions,
    MismatchParams,
    NearCaptions,
    NearImages,
    NotNegative,
    Positive,
    ProbeParams,
    Section,
    ShortCaptions,
    SlicesParams,
    SplitShares,
    TableParams,
    Threshold,
    ValidateParams,
)
from pipeline.sections_commands import PromoteParams, RetrainParams, TuneParams

__all__ = [
    "CardParams", "CleanParams", "Columns", "DataParams", "DriftParams", "Format", "LongCaptions",
    "MismatchParams", "NearCaptions", "NearImages", "NotNegative", "Positive", "ProbeParams",
    "PromoteParams", "RetrainParams", "Section", "ShortCaptions", "SplitShares", "TableParams",
    "Threshold", "TuneParams", "ValidateParams",
]  # fmt: skip

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Source = Annotated[str, Field(alias="data.source")]
Auto = Literal["auto"]
Rate = Annotated[float, Field(gt=0)]
LessThanAll = Annotated[float, Field(ge=0, lt=1)]
Limit = Annotated[float, Field(gt=0, le=1)]
PromptSet = Literal["openai_imagenet", "simple_imagenet"]
BatchSize = Annotated[int, Field(ge=2)]


class ModelParams(Section):
    """The base model: an OpenCLIP architecture and its weights."""

    name: str
    pretrained: str


class EmbeddingDriftParams(Section):
    """How far the pictures may have moved from those last accepted: an AUC, 0.5 to 1."""

    warn: Annotated[float, Field(ge=0.5, le=1)] | None
    stop: Annotated[float, Field(ge=0.5, le=1)] | None


class EmbedParams(Section):
    """How embeddings are computed and stored."""

    batch_size: Literal["auto"] | Positive
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    exact: bool
    decoder: Literal["cpu", "nvjpeg"]
    compile: bool
    mismatched: MismatchParams
    min_similarity: Annotated[float, Field(gt=0, le=1)] | None
    drift: EmbeddingDriftParams
    dtype: Literal["fp16", "fp32"]

    @model_validator(mode="after")
    def _exact_on_the_cpu(self) -> Self:
        if self.exact and self.decoder == "nvjpeg":
            raise ValueError("exact needs decoder: cpu; another decoder gives other last digits")
        return self


class LockParams(Section):
    """How much of each tower, from the input up, does not train."""

    image: Literal["all"] | Annotated[int, Field(ge=0)] | None
    text: Literal["all"] | Annotated[int, Field(ge=0)] | None


class LoraParams(Section):
    """Low-rank updates: which weights have them, and how large they may be."""

    rank: Positive
    alpha: Annotated[float, Field(gt=0)]
    targets: Annotated[list[Literal["query", "key", "value", "output", "mlp"]], Field(min_length=1)]
    from_depth: Annotated[int, Field(ge=0)]


class TowerRates(Section):
    """Factors of the learning rate."""

    image: Annotated[float, Field(ge=0)]
    text: Annotated[float, Field(ge=0)]


class FinetuneParams(Section):
    """One fine-tune."""

    method: Literal["full", "lit", "lora", "head"]
    lock: LockParams
    lora: LoraParams
    loss: Literal["auto", "info_nce", "sigmoid"]
    same_label: Literal["negative", "ignore", "positive"]
    epochs: Positive | Auto
    patience: Positive | None
    batch_size: BatchSize | Auto
    micro_batch: Positive | None
    lr: Rate | Auto
    tower_lr: TowerRates
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    weight_decay: NotNegative | Auto
    toward_base: Annotated[float, Field(ge=0)]
    distil: NotNegative
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    warmup: LessThanAll | Auto
    grad_clip: Annotated[float, Field(gt=0)]
    spike: Annotated[float, Field(gt=1)] | None
    augment: AugmentParams | None
    precision: Literal["auto", "fp32", "bf16"]
    checkpoint_activations: bool
    compile: bool
    freeze_batch_norm: bool
    deterministic: bool
    best_by: Literal["loss", "retrieval"]
    max_twins: Limit | None
    max_truncated: Limit | None


class EvaluateParams(Section):
    """What is scored, and how sure we want to be."""

    templates: PromptSet | Annotated[list[str], Field(min_length=1)]
    synonyms: dict[str, Annotated[list[str], Field(min_length=1)]]
    general: str
    alphas: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    max_forgetting: Annotated[float, Field(ge=0, le=100)] | None
    batch_size: Literal["auto"] | Positive
    probe: ProbeParams | None
    bootstrap: Positive
    confidence: Annotated[float, Field(gt=0, lt=1)]
    slices: SlicesParams
    card: CardParams

    @model_validator(mode="after")
    def _templates_have_a_place(self) -> Self:
        if isinstance(self.templates, str):
            return self
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"template {template!r} needs exactly one {{}} for the class name")
        return self


class ValidateStage(Section):
    """What `validate` may use."""

    data: DataParams
    limits: Annotated[ValidateParams, Field(alias="validate")]
    model: ModelParams


class CleanStage(Section):
    """What `clean` may use."""

    seed: Seed
    clean: CleanParams


class EmbedStage(Section):
    """What `embed` may use."""

    cpu_threads: Positive
    source: Source
    model: ModelParams
    embed: EmbedParams


class FinetuneStage(Section):
    """What `finetune` may use."""

    seed: Seed
    cpu_threads: Positive
    source: Source
    model: ModelParams
    finetune: FinetuneParams


class EvaluateStage(Section):
    """What `evaluate` may use."""

    seed: Seed
    cpu_threads: Positive
    data: DataParams
    model: ModelParams
    evaluate: EvaluateParams


class FetchStage(Section):
    """What `fetch` may use."""

    model: ModelParams


class Params(Section):
    """The whole of params.yaml."""

    seed: Seed
    cpu_threads: Positive
    data: DataParams
    limits: Annotated[ValidateParams, Field(alias="validate")]
    clean: CleanParams
    model: ModelParams
    embed: EmbedParams
    finetune: FinetuneParams
    evaluate: EvaluateParams
    promote: PromoteParams
    retrain: RetrainParams
    tune: TuneParams


class PromoteCommand(Section):
    """What `cliptune promote` reads."""

    seed: Seed
    cpu_threads: Positive
    data: DataParams
    limits: Annotated[ValidateParams, Field(alias="validate")]
    model: ModelParams
    embed: EmbedParams
    evaluate: EvaluateParams
    promote: PromoteParams


class RetrainCommand(PromoteCommand):
    """What `cliptune retrain` reads."""

    retrain: RetrainParams


Stage = TypeVar("Stage", bound=Section)


def load(kind: type[Stage], path: Path = paths.PARAMS) -> Stage:
    """Read `path`, check all of it, and return the part that a stage asks for.

    Raises ConfigError naming each key that is wrong, its value and the remedy.
    """
    content = _read(path)
    try:
        Params.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n       ".join(mistakes.told(path, error, Params))) from None
    keys = section_keys(kind)
    return kind.model_validate({key: _dig(content, key) for key in keys})


def section_keys(kind: type[Section]) -> list[str]:
    """The keys of params.yaml that `kind` holds, dotted, as dvc.yaml lists them."""
    return list(mistakes.fields(kind))


def _dig(content: dict[str, Any], key: str) -> Any:
    value: Any = content
    for part in key.split("."):
        value = value[part]
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: run from the folder that holds it") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is not a mapping of sections: compare it with the one in git")
    return content
