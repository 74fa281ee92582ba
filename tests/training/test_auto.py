"""What auto chooses, by hand."""

from typing import Any, get_args

import pytest

from pipeline.params import FinetuneParams, Params
from pipeline.training import auto
from pipeline.training.auto import Settled

SMALL, VIT_B, VIT_L = 4_600_000, 151_000_000, 428_000_000


def asked(defaults: Params, **values: Any) -> FinetuneParams:
    every = dict.fromkeys(auto.CHOICES, "auto")
    return FinetuneParams.model_validate({**defaults.finetune.model_dump(), **every, **values})


def chosen(defaults: Params, images: int, parameters: int, **values: Any) -> dict[str, float]:
    wanted = asked(defaults, **values)
    return auto.chosen(wanted, auto.settled(wanted, images=images, parameters=parameters))


@pytest.mark.parametrize(
    ("images", "parameters", "expected"),
    [
        # 1,700 / 8 = 212: batches of 128, 13 an epoch; 100 of 390 steps are more than a fifth.
        (1_700, SMALL, (128, 30, 1e-3, 0.2)),
        (1_700, VIT_B, (128, 30, 1e-5, 0.2)),
        # 78 steps an epoch make 2,000 in 26 epochs; 1e-5 × √2; 100 of 2,028 steps.
        (20_000, VIT_B, (256, 26, 1.4e-5, 0.049)),
        (20_000, VIT_L, (128, 13, 1e-5, 0.049)),
        (1_280_000, VIT_B, (256, 5, 1.4e-5, 0.02)),
        (20, VIT_B, (10, 30, 2.8e-6, 0.2)),
    ],
)
def test_by_hand(
    defaults: Params, images: int, parameters: int, expected: tuple[float, ...]
) -> None:
    found = chosen(defaults, images, parameters)
    assert found.pop("weight_decay") == 0.1
    assert tuple(found[key] for key in ("batch_size", "epochs", "lr", "warmup")) == expected


def test_what_has_a_value_keeps_it_and_the_rest_heeds_it(defaults: Params) -> None:
    """Batches of 512 among 20,000: 39 steps an epoch, 51 epochs for 2,000; 1e-5 × 2."""
    wanted = asked(defaults, batch_size=512)
    found = auto.settled(wanted, images=20_000, parameters=VIT_B)
    assert (found.batch_size, found.epochs, found.lr) == (512, 30, 2e-5)
    assert "batch_size" not in auto.chosen(wanted, found)
    untouched = {key: value for key, value in wanted.model_dump().items() if value != "auto"}
    assert found.model_dump().items() >= untouched.items()
    explicit = auto.settled(defaults.finetune, images=7, parameters=1)
    assert explicit.model_dump() == defaults.finetune.model_dump()
    assert auto.chosen(defaults.finetune, explicit) == {}


def test_each_method_has_a_rate_and_a_decay(defaults: Params) -> None:
    methods = get_args(FinetuneParams.model_fields["method"].annotation)
    rates = {m: chosen(defaults, 1_700, VIT_B, method=m)["lr"] for m in methods}
    assert rates["lora"] == 10 * rates["full"] == pytest.approx(1e-4)
    assert chosen(defaults, 1_700, VIT_B, method="lora")["weight_decay"] == 0.01
    assert chosen(defaults, 1_700, SMALL, method="lora")["lr"] == 1e-3


@pytest.mark.parametrize("images", [2, 3, 15, 16, 31, 32, 33, 255, 5_000])
def test_there_is_always_a_step_after_warm_up(defaults: Params, images: int) -> None:
    found = auto.settled(asked(defaults), images=images, parameters=VIT_B)
    steps = images // found.batch_size * found.epochs
    assert steps >= 30
    assert found.warmup * steps <= steps / 5 + 1


def test_nothing_is_left_to_choose() -> None:
    for key in auto.CHOICES:
        assert "auto" not in str(Settled.model_fields[key].annotation)
        assert "auto" in str(FinetuneParams.model_fields[key].annotation)


def test_it_reads_as_params_do() -> None:
    assert auto.shown({"lr": 1.4e-05, "batch_size": 256}) == "lr 1.4e-05, batch_size 256"
