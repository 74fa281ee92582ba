"""What a sweep may try: keys of params.yaml, checked before any work, and values as DVC takes them.

A trial is judged on the validation split, so no key may change what that split holds or how its
figures are computed: then the best trial would only be the one with the easiest questions.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pipeline import mistakes, paths
from pipeline.errors import ConfigError
from pipeline.params import Params
from pipeline.sections_commands import Search, TuneParams

Values = Mapping[str, Any]
"""Key of params.yaml → value."""

ALLOWED = ("finetune.", "embed.mismatched.")
SPLIT = "another one is another validation split, so trials could not be compared"
LATER = "it comes into play after validation, so all trials would be equal"
REASONS = {
    "seed": SPLIT,
    "data": SPLIT,
    "validate": SPLIT,
    "clean": SPLIT,
    "model": "trials start from one base model; sweep each of several by itself",
    "embed": "of embed, mismatched alone changes what is trained on",
    "cpu_threads": "it changes no more than last digits",
    "evaluate": LATER,
    "promote": LATER,
    "retrain": LATER,
    "tune": LATER,
}
"""Why a key may not be searched, by its section."""

OF_THE_LOSS = {
    "finetune.batch_size": "val_loss is that of a batch: with more negatives it is higher",
    "finetune.loss": "the values of two losses can't be compared",
}
"""Keys that can't be searched where trials are judged by val_loss."""

DIGITS = 4
"""Significant digits of a number that is tried: what people can read, and more than it matters."""


def check(params: Params) -> None:
    """Raise ConfigError for each key and each value of tune.space that can't be tried, with why."""
    content = params.model_dump(by_alias=True)
    wrong = [
        line for key, search in params.tune.space.items()
        for line in _wrong(content, key, search, params.tune)
    ]  # fmt: skip
    if wrong:
        raise ConfigError("\n       ".join(dict.fromkeys(wrong)))


def present(params: Params) -> dict[str, Any]:
    """The keys of the space with their values as params.yaml has them."""
    content = params.model_dump(by_alias=True)
    return {key: dig(content, key) for key in params.tune.space}


def dig(content: Mapping[str, Any], key: str) -> Any:
    """What a dotted key names; KeyError where it names nothing."""
    value: Any = content
    for part in key.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(key)
        value = value[part]
    return value


def holds(search: Search, value: Any) -> bool:
    """Whether a search could draw this value."""
    if search.choices is not None:
        return any(type(value) is type(choice) and value == choice for choice in search.choices)
    kinds = (int,) if whole(search) else (int, float)
    low, high = limits(search)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        return False
    steps = (value - low) / (search.step or 1)
    return search.step is None or abs(steps - round(steps)) < 1e-8


def limits(search: Search) -> tuple[float, float]:
    """Low and high of a search that has them."""
    if search.low is None or search.high is None:
        raise ValueError("choices have no limits")
    return search.low, search.high


def whole(search: Search) -> bool:
    """Whether only whole numbers lie in it."""
    numbers = (search.low, search.high, search.step)
    return all(isinstance(number, int) for number in numbers if number is not None)


def rounded(search: Search, value: Any) -> Any:
    """A value as it is tried: few digits, and not beyond the limits for that."""
    if search.choices is not None or not isinstance(value, float):
        return value
    low, high = limits(search)
    return min(max(float(f"{value:.{DIGITS}g}"), float(low)), float(high))


def overrides(values: Values) -> list[str]:
    """Arguments of `dvc exp run`."""
    return [part for key, value in values.items() for part in ("-S", f"{key}={as_text(value)}")]


def as_text(value: Any) -> str:
    """A value as params.yaml spells it."""
    return value if isinstance(value, str) else json.dumps(value)


def _wrong(content: Mapping[str, Any], key: str, search: Search, tune: TuneParams) -> Iterator[str]:
    where = f"{paths.PARAMS}: `tune.space.{key}`"
    try:
        dig(content, key)
    except KeyError:
        near = difflib.get_close_matches(key, _leaves(content), n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        yield f"{where}: there is no key {key}{hint}"
        return
    if not key.startswith(ALLOWED):
        yield f"{where} can't be searched: {REASONS[key.partition('.')[0]]}. Remove it"
        return
    if tune.metric == "val_loss" and key in OF_THE_LOSS:
        why = OF_THE_LOSS[key]
        yield f"{where} can't be searched by tune.metric val_loss: {why}. Take val_mean_r1"
        return
    for value in search.choices or limits(search):
        try:
            Params.model_validate(_changed(content, key, value))
        except ValidationError as error:
            told = mistakes.told(paths.PARAMS, error, Params)
            yield from (f"{where} has {as_text(value)}, which can't be: {line}" for line in told)


def _changed(content: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {**content, first: _changed(content[first], rest, value) if rest else value}


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
