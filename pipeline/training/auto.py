"""What `auto` means in `finetune`: values by the number of pictures, the model and the method.

The same for the same params, data and model on any machine: nothing here looks at the device.
Needs no torch, so that the doctor can ask it too.
"""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.params import BatchSize, FinetuneParams, LessThanAll, NotNegative, Positive, Rate

LARGE = 50_000_000
"""Parameters from which a model is taken for one pretrained on the web, with much to lose: of all
with public weights in OpenCLIP the smallest has 62 million (ViTamin-S)."""

HUGE = 250_000_000
"""Parameters from which 256 pairs ask more memory than most GPUs have (ViT-L: 428 million)."""

STEPS = 2000
EPOCHS = range(5, 31)


class Settled(FinetuneParams):
    """A fine-tune in which nothing is left to choose."""

    epochs: Positive
    batch_size: BatchSize
    lr: Rate
    weight_decay: NotNegative
    warmup: LessThanAll


CHOICES = tuple(Settled.__annotations__)


def settled(asked: FinetuneParams, *, images: int, parameters: int) -> Settled:
    """`asked` with a value for each `auto`; what has a value keeps it, and the others heed it.

    `images` are the distinct pictures to train on, `parameters` those of the model. How much a
    batch takes follows from the pictures, the epochs from the batch, the rest from both:
    `batch_size`, `epochs`, `learning_rate`, `warmup`, `weight_decay` say by which rule.
    """
    size = asked.batch_size
    if size == "auto":
        size = batch_size(images, parameters=parameters)
    per_epoch = max(images // size, 1)
    rounds = epochs(per_epoch) if asked.epochs == "auto" else asked.epochs
    rules = {
        "batch_size": size,
        "epochs": rounds,
        "lr": learning_rate(parameters, method=asked.method, batch_size=size),
        "warmup": warmup(rounds * per_epoch, beta2=asked.betas[1]),
        "weight_decay": weight_decay(asked.method),
    }
    values = asked.model_dump()
    chosen = {key: value for key, value in rules.items() if values[key] == "auto"}
    return Settled.model_validate({**values, **chosen})


def chosen(asked: FinetuneParams, settled: Settled) -> dict[str, float]:
    """The values that stand in place of `auto`, by key."""
    return {key: getattr(settled, key) for key in CHOICES if getattr(asked, key) == "auto"}


def shown(chosen: Mapping[str, Any]) -> str:
    """Chosen values as people read them, and as they could stand in params.yaml."""
    return ", ".join(f"{key} {value:g}" for key, value in chosen.items())


def batch_size(images: int, *, parameters: int) -> int:
    """The largest power of two of which an epoch has eight; 16 to 256 (from `HUGE` on 128).

    Every row of a batch is a negative of the others, so a large one teaches more; but a small data
    set needs steps too, and each epoch leaves out what fills no batch. 256 is what FLYP (Goyal et
    al. 2023, arXiv:2212.00638) takes on all but ImageNet. Fewer than 32 pictures make batches of
    half of them.
    """
    most = 128 if parameters >= HUGE else 256
    size = 1 << (max(images // 8, 1).bit_length() - 1)
    return max(min(max(size, 16), most, images // 2), 2)


def epochs(per_epoch: int) -> int:
    """As many as make 2,000 steps; 5 to 30.

    FLYP trains 2,000 to 3,000 steps on some thousands of pictures (100 epochs), 10,000 on 130,000
    (20) and 25,000 on ImageNet (10). Fewer suffice here, as the epoch best on validation is kept;
    more than 30 looks at the same pictures are not worth their time.
    """
    return min(max(round(STEPS / per_epoch), EPOCHS.start), EPOCHS.stop - 1)


def learning_rate(parameters: int, *, method: str, batch_size: int) -> float:
    """By size of the model and method for a batch of 128, times the root of a batch's share of it.

    A large model, pretrained on the web: 1e-5, which comes to 2e-5 for a batch of 512, between
    FLYP's 1e-5 and WiSE-FT's 3e-5 (Wortsman et al. 2022, arXiv:2109.01903). A smaller one has less
    to forget and learns at a rate of training from scratch: 1e-3, measured on the sample
    (docs/results.md).

    Low-rank updates take ten times that of full fine-tuning (Schulman et al. 2025, "LoRA Without
    Regret"; CLIP-LoRA, Zanella & Ben Ayed 2024, arXiv:2405.18541, takes 2e-4 with a ViT-B), but a
    small model's rate can't be raised so. A head alone, on a model that stays: 1e-3 (Tip-Adapter,
    Zhang et al. 2022, arXiv:2207.09519). The root is Adam's way to scale (Malladi et al. 2022,
    arXiv:2205.10287).
    """
    of_method = {"full": 1e-5, "lit": 1e-5, "lora": 1e-4, "head": 1e-3}[method]
    rate = (of_method if parameters >= LARGE else 1e-3) * math.sqrt(batch_size / 128)
    return float(f"{rate:.1e}")


def warmup(steps: int, *, beta2: float) -> float:
    """The share of all steps that makes 2 / (1 − β2) of them, but a fiftieth to a fifth of all.

    By then Adam's second moment is known (Ma & Yarats 2019, arXiv:1910.04209). A fiftieth is what
    500 steps, WiSE-FT's and FLYP's, are of their 25,000 on ImageNet. 0 where there are too few
    steps for a fifth to be one.
    """
    if steps < 5:
        return 0.0
    share = 2 / (1 - beta2) / steps
    return round(min(max(share, 0.02), 0.2), 3)


def weight_decay(method: str) -> float:
    """0.1 for the model's own weights; 0.01 for what begins at zero beside them.

    Of WiSE-FT and FLYP on ImageNet 0.1; 0.2 is a value of pretraining. Low-rank updates and heads
    take PyTorch's default for AdamW, as CLIP-LoRA and Tip-Adapter do: their decay pulls towards
    the model as it came, not towards zero.
    """
    return {"full": 0.1, "lit": 0.1, "lora": 0.01, "head": 0.01}[method]
