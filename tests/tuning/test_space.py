from pathlib import Path

import pytest

from pipeline import params as params_of
from pipeline.errors import ConfigError
from pipeline.params import Params
from pipeline.sections_commands import Search
from pipeline.tuning import space
from tests.tuning.sweeping import with_space


def loaded(folder: Path, text: str, **changes: str) -> Params:
    """The params with another space, and other lines of the section."""
    file = folder / "params.yaml"
    content = with_space(text)
    for key, value in changes.items():
        before, _, after = content.rpartition(f"\n  {key}: ")
        content = f"{before}\n  {key}: {value}\n{after.partition(chr(10))[2]}"
    file.write_text(content)
    return params_of.load(Params, file)


LOG = "{low: 1.0e-5, high: 1.0e-3, log: true}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"finetune.rate: {LOG}", "`tune.space.finetune.rate`: there is no key finetune.rate"),
        (f"finetune.lrr: {LOG}", "there is no key finetune.lrr: did you mean finetune.lr?"),
        (f"finetune.lr.x: {LOG}", "there is no key finetune.lr.x"),
        (
            "seed: {choices: [0, 1]}",
            "`tune.space.seed` can't be searched: another one is",
        ),
        ("clean.min_words: {choices: [1, 2]}", "another one is another validation split"),
        ("evaluate.bootstrap: {choices: [1, 2]}", "it comes into play after validation"),
        ("promote.least_gain: {choices: [1.0, 2.0]}", "it comes into play after validation"),
        ("retrain.least_new: {choices: [1, 2]}", "it comes into play after validation"),
        ("model.name: {choices: [a, b]}", "sweep each of several by itself"),
        ("embed.exact: {choices: [true, false]}", "of embed, mismatched alone changes what is tr"),
        (
            "finetune.lr: {choices: [1.0e-4, -1.0]}",
            "`tune.space.finetune.lr` has -1.0, which can't be: params.yaml: `finetune.lr` is "
            "-1.0: input should be greater than 0",
        ),
        ("finetune.lr: {low: 0, high: 1, log: false}", "has 0, which can't be"),
        ("finetune.epochs: {low: 1.0, high: 2.5, step: 0.5}", "has 2.5, which can't be"),
        ("finetune.method: {choices: [full, most]}", "has most, which can't be"),
        ("finetune.lora: {choices: [1, 2]}", "has 1, which can't be"),
    ],
)
def test_what_cannot_be_searched_is_told_with_the_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    params = loaded(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        space.check(params)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "finetune.lr: {low: 1.0}",
            "{low: 1.0} is no search: write {low, high, log}, {low",
        ),
        ("finetune.lr: {low: 1, high: 2, log: true, step: 1}", "is no search"),
        ("finetune.lr: {low: 2, high: 1, log: true}", "low 2 is not below high 1"),
        ("finetune.lr: {low: 0, high: 1, log: true}", "low is 0: log draws above 0 alone"),
        ("finetune.lr: {low: 0, high: 1, step: 2}", "step is 2: from 0 to 1 there is none"),
        ("finetune.lr: {choices: [1, 1]}", "choices [1, 1] are fewer than two different ones"),
        ("finetune.lr: {choice: [1, 2]}", "unknown key `tune.space.finetune.lr.choice`: did you m"),
        ("finetune.lr: {choices: [[1], 2]}", "`tune.space.finetune.lr.choices.0` is [1]"),
    ],
)
def test_a_search_that_is_none_fails_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text)
    assert message in str(error.value)


def test_no_figure_of_the_test_split_can_be_the_metric(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`tune.metric` is 'test_top1'"):
        loaded(tmp_path, f"finetune.lr: {LOG}", metric="test_top1")


@pytest.mark.parametrize(
    "key", ["batch_size: {choices: [64, 128]}", "loss: {choices: [auto, sigmoid]}"]
)
def test_losses_that_cannot_be_compared_are_not(tmp_path: Path, key: str) -> None:
    space.check(loaded(tmp_path, f"finetune.{key}"))
    params = loaded(tmp_path, f"finetune.{key}", metric="val_loss")
    with pytest.raises(ConfigError, match=r"by tune.metric val_loss: .*. Take val_mean_r1"):
        space.check(params)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = f"seed: {{choices: [0, 1]}}\n    finetune.rate: {LOG}"
    with pytest.raises(ConfigError) as error:
        space.check(loaded(tmp_path, text))
    assert len(str(error.value).splitlines()) == 2


def test_the_space_as_it_comes_can_be_searched(defaults: Params) -> None:
    space.check(defaults)
    now = space.present(defaults)
    assert now == {"finetune.lr": 5e-4, "finetune.weight_decay": 0.1}
    assert all(space.holds(defaults.tune.space[key], value) for key, value in now.items())


@pytest.mark.parametrize(
    ("search", "value", "inside"),
    [
        (Search(low=1, high=9, log=False), 9, True),
        (Search(low=1, high=9, log=False), 3.0, False),
        (Search(low=1, high=9, log=False), "auto", False),
        (Search(low=0.1, high=0.9, step=0.2), 0.7, True),
        (Search(low=0.1, high=0.9, step=0.2), 0.6, False),
        (Search(choices=[None, 0.9]), None, True),
        (Search(choices=[1, 2]), True, False),
    ],
)
def test_a_value_lies_in_a_search_or_not(search: Search, value: object, inside: bool) -> None:
    assert space.holds(search, value) is inside


def test_a_number_is_tried_with_few_digits_within_its_limits() -> None:
    search = Search(low=1.23456e-4, high=0.987654, log=True)
    assert space.rounded(search, 0.00123456789) == 0.001235
    assert space.rounded(search, 1.23456e-4) == 1.235e-4
    assert space.rounded(search, 0.987654) == 0.987654
    assert space.rounded(Search(choices=[0.123456, 1]), 0.123456) == 0.123456


def test_overrides_are_what_dvc_takes() -> None:
    values = {"finetune.lr": 1e-5, "finetune.ema": None, "finetune.compile": True, "a.b": "lora"}
    assert space.overrides(values) == [
        "-S", "finetune.lr=1e-05", "-S", "finetune.ema=null", "-S", "finetune.compile=true",
        "-S", "a.b=lora",
    ]  # fmt: skip
