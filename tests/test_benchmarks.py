"""What a benchmark's figures are made with, where a slip would show in none of them."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import train, train_sides
from pipeline.clip.losses import positives
from pipeline.params import Params


def test_openclips_trainer_is_asked_for_what_ours_is(defaults: Params) -> None:
    from open_clip_train.params import parse_args

    asked = {**defaults.finetune.model_dump(), "precision": "fp32", "epochs": 10}
    words = train_sides.arguments(
        asked, train=Path("t.csv"), base=Path("base"), logs=Path("logs"), epochs=5, steps=300,
        seed=3,
    )  # fmt: skip
    said = parse_args(words)
    assert (said.epochs, said.batch_size, said.warmup, said.seed) == (5, 128, 30, 3)
    assert (said.lr, said.wd, said.beta1, said.beta2, said.eps) == (1e-3, 0.1, 0.9, 0.98, 1e-6)
    assert (said.precision, said.grad_clip_norm, said.workers) == ("fp32", 1.0, 2)
    assert said.aug_cfg == {"scale": (0.9, 1.0)}


def test_ratios_are_of_the_same_turn() -> None:
    turns = [
        {
            train.THEIRS: {"later": theirs, "bytes": 2.0},
            "ours": {"later": ours, "bytes": 1.0},
        }
        for theirs, ours in [(10, 20), (40, 40), (20, 60)]
    ]
    found = train.summary(turns)
    assert found["median"]["ours"]["later"] == 40
    assert found["ratio"] == {"later": 2.0, "bytes": 0.5}


def test_pairs_a_second_leave_the_first_epoch_apart() -> None:
    run = train_sides.Run(seconds=[10.0, 4.0, 6.0], pairs=100, wall=30.0, bytes=7, best=2)
    assert train.figures(run) == {"first": 10.0, "later": 20.0, "bytes": 7.0, "wall": 30.0}


def test_a_spread_is_over_the_seeds() -> None:
    found = train.mean_and_spread([{"top1": 0.1}, {"top1": 0.2}, {"top1": 0.3}])
    assert found["top1"] == pytest.approx((0.2, 0.1))


def test_without_twins_told_each_pair_is_its_own_alone() -> None:
    pairs = pd.DataFrame(
        {"image_id": ["a", "a", "b"], "caption": ["x", "y", "x"], "label": ["l", "l", "l"]}
    )
    codes = train_sides._each_its_own(pairs).codes
    masks = positives(codes.image, codes.caption)
    assert torch.equal(masks, torch.eye(3, dtype=torch.bool))
