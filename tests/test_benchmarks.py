"""What a benchmark's figures are made with, where a slip would show in none of them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks import embed, train, train_gpu, train_gpu_parts, train_sides
from pipeline.clip.losses import positives
from pipeline.params import Params
from tests.small import vit


def test_openclips_trainer_is_asked_for_what_ours_is(defaults: Params) -> None:
    from open_clip_train.params import parse_args

    asked = {**defaults.finetune.model_dump(), "precision": "fp32", "epochs": 10}
    words = train_sides.arguments(
        asked, train=Path("t.csv"), base=Path("base"), logs=Path("logs"), epochs=5, steps=300,
        seed=3,
    )  # fmt: skip
    said = parse_args(words)
    assert (said.epochs, said.batch_size, said.warmup, said.seed) == (5, 128, 30, 3)
    assert (said.lr, said.wd, said.beta1, said.beta2, said.eps) == (5e-4, 0.1, 0.9, 0.98, 1e-6)
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


def test_openclips_trainer_accumulates_what_ours_takes_in_micro_batches(defaults: Params) -> None:
    from open_clip_train.params import parse_args

    asked = {**defaults.finetune.model_dump(), "precision": "bf16", "epochs": 2}
    asked |= {"batch_size": 1024, "micro_batch": 256}
    given: dict[str, Any] = {
        "train": Path("t.csv"), "base": Path("base"), "logs": Path("logs"), "epochs": 2,
        "steps": 64, "seed": 0, "workers": 16, "device": "cuda",
    }  # fmt: skip
    said = parse_args(train_sides.arguments(asked, **given))
    assert (said.batch_size, said.accum_freq) == (256, 4)
    assert (said.precision, said.device, said.workers, said.warmup) == ("amp_bf16", "cuda", 16, 7)
    with pytest.raises(SystemExit, match="1024 is no multiple of micro-batches of 300"):
        train_sides.arguments({**asked, "micro_batch": 300}, **given)


@pytest.mark.parametrize("length", [8, 4])
def test_operations_of_a_small_model_are_those_counted_by_hand(length: int) -> None:
    """A matrix product of m×k by k×n is 2mkn forward, and twice that backward."""
    width, patches, places, embedding = 16, 4, 5, 12

    def tower(tokens: int) -> int:
        linear = tokens * width * (3 + 1 + 4 + 4) * width  # query, key, value; output; the MLP
        attention = 2 * tokens * tokens * width
        return 2 * (linear + attention) + 2 * width * embedding

    # Of the pixels nobody asks for a gradient: the first convolution has half the way back.
    convolution = 2 * 2 * patches * (3 * 16 * 16) * width
    expected = 3 * (tower(places) + tower(length)) + convolution
    assert train_gpu_parts.flops(vit(blocks=1).to("meta"), side=32, length=length) == expected


def test_as_many_rows_as_fit_are_found_by_halving() -> None:
    asked: list[int] = []

    def fits(rows: int) -> bool:
        asked.append(rows)
        return rows <= 300

    assert train_gpu_parts.largest(fits, 1024, most=512) == 256
    assert asked == [512, 256]
    assert train_gpu_parts.largest(fits, 200, most=200) == 200
    with pytest.raises(SystemExit, match="not even 1 rows fit"):
        train_gpu_parts.largest(lambda _: False, 8, most=8)


@pytest.mark.parametrize(
    ("pictures", "named"), [(3.1, "pictures"), (2.9, "forward and backward"), (0.1, "loss")]
)
def test_pictures_limit_only_where_they_take_longer_than_all_else(
    pictures: float, named: str
) -> None:
    seconds = {"pictures": pictures, "pictures again": 0.0, "optimizer": 0.1}
    seconds |= {"forward and backward": 0.5, "loss": 2.4} if named == "loss" else {
        "forward and backward": 2.0, "loss": 0.9,
    }  # fmt: skip
    assert train_gpu.bottleneck(seconds, alongside="pictures") == named
    later = train_gpu.bottleneck(seconds, alongside="pictures again")
    assert later == ("loss" if named == "loss" else "forward and backward")


def looked() -> dict[str, Any]:
    seconds = {"pictures": 9.0, "pictures again": 0.5, "forward and backward": 2.0, "loss": 1.0}
    return {"rows": 256, "tokens": 20, "flops": 5 * 10**9, "seconds": seconds}


def test_a_table_tells_rates_operations_and_what_limits() -> None:
    run = train_sides.Run(
        seconds=[10.0, 4.0], pairs=8000, wall=30.0, bytes=7, best=2, gpu_bytes=3 * 10**9
    )
    mine = train_gpu.described(run, looked())
    assert (mine["first"], mine["later"], mine["tflops"]) == (800.0, 2000.0, 10.0)
    other = {**mine, "first": 400.0, "later": 2500.0}
    lines = train_gpu.table("ViT-B-32", 1024, {train_gpu.THEIRS: other, "ours": mine})
    assert lines[3].split() == [
        "ours", "256", "20", "800", "2,000", "10.0", "3.0", "pictures,", "forward", "and",
        "backward",
    ]  # fmt: skip
    assert lines[4].split() == ["ratio", "2.00", "0.80"]
    found = train_gpu.goals({"ViT-B-32": {1024: {train_gpu.THEIRS: other, "ours": mine}}})
    assert found == {"ViT-B-32 1024 later": {"figure": 0.8, "goal": 1.0, "met": False}}


def test_a_run_that_lacks_memory_goes_on_with_half_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def ours(*_: Any, asked: dict[str, Any], **__: Any) -> tuple[str, None]:
        tried.append(asked["micro_batch"])
        if len(tried) < 3:
            raise SystemExit("failed:\nno memory left for 8 pairs at once")
        if tried[-1] == 1:
            raise SystemExit("failed:\nsomething else")
        return "run", None

    monkeypatch.setattr(train_gpu, "ours", ours)
    found = train_gpu.trained(
        "ours", tmp_path, "m", {"batch_size": 8}, looked={"rows": 8}, device="cpu"
    )
    assert (found, tried) == (("run", 2), [None, 4, 2])
    with pytest.raises(SystemExit, match="something else"):
        train_gpu.trained(
            "ours", tmp_path, "m", {"batch_size": 8}, looked={"rows": 1}, device="cpu"
        )


@pytest.mark.parametrize(("free", "workers"), [(1000, 16), (60, 3), (10, 1)])
def test_processes_are_as_many_as_shared_memory_holds_two_batches_of(
    free: int, workers: int
) -> None:
    assert train_gpu.workers_for(16, batch_bytes=10, free=free) == workers


@pytest.mark.parametrize(
    ("pictures", "workers", "batch"),
    [(2048, 16, 32), (16384, 16, 256), (10**6, 16, 256), (3, 2, 1)],
)
def test_each_process_of_a_loader_has_batches_to_make(
    pictures: int, workers: int, batch: int
) -> None:
    assert embed.spread(pictures, workers=workers, most=256) == batch


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU here: "):
        train_gpu.main()


@pytest.mark.slow
def test_all_of_train_gpu_runs_on_a_small_model_without_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both real trainers, a batch in two micro-batches."""
    found = list(
        train_gpu.compare(
            ["scenes-resnet"], [16, 64], tmp_path, images=32, device="cpu", most=8
        )
    )  # fmt: skip
    assert "batch 64: left out, as CLIPTUNE_BENCH_IMAGES is 32" in capsys.readouterr().out
    ((model, batch, one),) = found
    assert (model, batch, list(one)) == ("scenes-resnet", 16, [train_gpu.THEIRS, "ours"])
    for figures in one.values():
        assert figures["rows"] == 8
        assert figures["seconds"]["second forward"] > 0
        assert figures["tflops"] == pytest.approx(figures["later"] * figures["flops"] / 1e12)
        assert figures["first"] > 0
    assert one["ours"]["tokens"] < one[train_gpu.THEIRS]["tokens"]
    assert one["ours"]["flops"] < one[train_gpu.THEIRS]["flops"]
    assert len(train_gpu.table(model, batch, one)) == 7
