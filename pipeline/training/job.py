"""The finetune stage's one call: clean pairs and the base model → a fine-tuned model."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.artifacts import sha256_of, sha256_text, write_text
from pipeline.clip import device as devices
from pipeline.clip.model import Clip, load, locate
from pipeline.clip.pixels import Crops
from pipeline.data.pairs import PAIRS_FILE, read_pairs
from pipeline.data.places import places_of
from pipeline.params import FinetuneParams, ModelParams
from pipeline.training.finetune import Log, Recalls, fit

HISTORY = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_image_to_text_r1",
    "val_text_to_image_r1",
    "lr",
    "logit_scale",
)


class Finetuned(NamedTuple):
    """The model, what the stage found, and where the model comes from."""

    clip: Clip
    found: dict[str, Any]
    record: dict[str, Any]


def finetune(
    selected: Path,
    source: Path,
    params: FinetuneParams,
    *,
    packed: Path,
    base: ModelParams,
    seed: int,
    cpu_threads: int,
    recalls: Recalls,
    log: Log,
    history_file: Path,
) -> Finetuned:
    """Fine-tune the base model on the training split; write a row an epoch to `history_file`.

    Raises ModelError and TrainingError, as `load` and `fit` do.
    """
    device = devices.prepare(cpu_threads=cpu_threads, deterministic=params.deterministic)
    clip = load(locate(base.pretrained), architecture=base.name)
    pairs = read_pairs(selected)
    train, val = (pairs[pairs["split"] == name].reset_index(drop=True) for name in ("train", "val"))
    fitted = fit(
        clip,
        train,
        val,
        crops=Crops(clip, places_of(pairs[pairs["split"] != "test"], source=source, packed=packed)),
        params=params,
        seed=seed,
        recalls=recalls,
        log=log,
        device=device,
    )
    write_text(history_file, pd.DataFrame(fitted.history)[list(HISTORY)].to_csv(index=False))
    best = fitted.history[fitted.best]
    found = {
        "epochs": params.epochs,
        "best_epoch": fitted.best,
        "train_images": int(train["image_id"].nunique()),
        "val_images": int(val["image_id"].nunique()),
        **{name: value for name, value in best.items() if name.startswith("val_")},
    }
    record = {
        "base": {**base.model_dump(), "sha256": clip.fingerprint},
        "data": {"pairs_sha256": sha256_of(selected / PAIRS_FILE)},
        "code": {"sha256": _code()},
        "params": {
            "seed": seed,
            "cpu_threads": cpu_threads,
            "finetune": params.model_dump(),
        },
    }
    return Finetuned(clip, found, record)


def _code() -> str:
    """One hash of the code that training runs: this package, and what it stands on."""
    package = Path(__file__).parents[1]
    files = sorted(f for d in ("training", "clip", "data") for f in (package / d).glob("*.py"))
    lines = [f"{file.relative_to(package).as_posix()} {sha256_of(file)}" for file in files]
    return sha256_text("\n".join(lines))
