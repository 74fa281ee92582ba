"""The sections of params.yaml that commands read and no stage, as types.

Every default stands in params.yaml and none here.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.sections import NotNegative, Positive, Section

NAMELESS = "/:@'\"`\\"
"""Characters that MLflow takes in no name, reads as a version or an alias, or can't search for."""


class RetrainParams(Section):
    """When a scheduled retraining is worth a training; no stage reads it."""

    least_new: Annotated[int, Field(ge=0)]


class PromoteParams(Section):
    """What a new model must show before it takes the champion's place; no stage reads it."""

    model: Annotated[str, Field(min_length=1)]
    least_gain: float
    max_forgetting: NotNegative | None
    max_slice_loss: NotNegative | None
    despite_warnings: bool
    despite_drift: bool
    max_megabytes: Annotated[float, Field(gt=0)] | None
    max_milliseconds: Annotated[float, Field(gt=0)] | None

    @field_validator("model")
    @classmethod
    def _is_a_name(cls, model: str) -> str:
        wrong = [c for c in dict.fromkeys(model) if c in NAMELESS or not c.isprintable()]
        if wrong:
            raise ValueError(
                f"{model!r} is no name for MLflow's registry, where {' '.join(map(repr, wrong))} "
                "can't be part of one: use letters, digits, spaces and . - _"
            )
        return model


Choice = bool | int | float | str | None


class Search(Section):
    """What to try for one key: numbers between low and high, by log or by step, or some choices.

    None: not given. Which keys are given says which of the three it is, so none has a default.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool | None = None
    step: int | float | None = None
    choices: list[Choice] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if set(given) not in ({"low", "high", "log"}, {"low", "high", "step"}, {"choices"}):
            raise ValueError(
                f"{_as_yaml(given)} is no search: write {{low, high, log}}, {{low, high, step}} or "
                "{choices}"
            )
        if self.choices is not None:
            if len({(type(choice), choice) for choice in self.choices}) < max(len(self.choices), 2):
                raise ValueError(f"choices {self.choices} are fewer than two different ones")
            return self
        low, high = float(self.low or 0), float(self.high or 0)
        if low >= high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and low <= 0:
            raise ValueError(f"low is {self.low}: log draws above 0 alone")
        if self.step is not None and not 0 < self.step <= high - low:
            raise ValueError(f"step is {self.step}: from {self.low} to {self.high} there is none")
        return self


def _as_yaml(given: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in given.items()) + "}"


class TuneParams(Section):
    """What `cliptune tune` tries, and how it judges; no stage reads it."""

    space: Annotated[dict[str, Search], Field(min_length=1)]
    trials: Positive
    metric: Literal["val_mean_r1", "val_image_to_text_r1", "val_text_to_image_r1", "val_loss"]
