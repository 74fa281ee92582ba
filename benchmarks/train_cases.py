"""What benchmarks/train.py trains on: pairs as the finetune stage gets them, and what to ask."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.embed import THREADS, make, saved
from pipeline import params as params_of
from pipeline import paths
from pipeline.captions.clean import clean
from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.clip.tokens import TokenCounter, token_counter
from pipeline.data.pairs import PAIR, PAIRS_FILE, read_pairs, write_table
from pipeline.evaluation import sets
from pipeline.evaluation.prompts import caption_template
from pipeline.evaluation.sets import EvalSet
from pipeline.params import ModelParams, Params
from pipeline.validation.validate import validate

REAL = Path(__file__).parents[2] / "shared" / "real"
SAMPLE = Path("samples/scenes/out")
BASE = Path("samples/base_model/out")
HELD_OUT = 16
"""Made pictures on which ours validates."""

CLASSES = [
    "t-shirt", "longsleeve", "shoes", "pants", "outwear", "shirt", "shorts", "dress", "hat", "skirt"
]  # fmt: skip
"""Of the photographs in `clothing`, whose only captions are a template over these."""

EQUAL = {
    "precision": "fp32",
    "distil": 0.0,
    "augment": {"scale": 0.9, "brightness": 0.0, "contrast": 0.0, "flip": 0.0},
}
"""What both trainers can do: OpenCLIP's default varies the box alone."""


@dataclass(frozen=True)
class Case:
    """A data set, a model, and how it is trained.

    Attributes:
        selected, source: the pairs, and where their pictures lie.
        architecture, base: the model, and the folder that holds it.
        asked: params of `finetune`, as our trainer gets them; a speed turn takes `epochs` of them.
        epochs: of a training for quality; None: speed alone is measured.
        goals: the least ratio of pairs a second, in the `first` and the `later` epochs.
        targets: what of the test split must not be worse.
    """

    selected: Path
    source: Path
    architecture: str
    base: Path
    asked: dict[str, Any]
    epochs: int | None
    goals: dict[str, float]
    targets: tuple[str, ...] = ()

    def counts(self) -> dict[str, float]:
        """Training pairs, pictures, distinct captions, and the mean of a caption's tokens."""
        pairs = read_pairs(self.selected)
        train = pairs[pairs["split"] == "train"]
        counter = TokenCounter(clip_model.load(self.base, architecture=self.architecture).tokenizer)
        return {
            "pairs": len(train),
            "pictures": int(train["image_id"].nunique()),
            "captions": int(train["caption"].nunique()),
            "tokens": float(counter.count(list(train["caption"])).mean()),
        }

    def sets(self, scratch: Path) -> dict[str, EvalSet]:
        """The test split, and the base's own slice, on which forgetting shows."""
        asked = params_of.load(Params).evaluate
        general = sets.general(
            Path(asked.general), scratch=scratch, template=caption_template(asked.templates)
        )  # fmt: skip
        return {"target": sets.target(self.selected, self.source, packed=scratch), **general}

    def model(self) -> Clip:
        """The base, anew."""
        return clip_model.load(self.base, architecture=self.architecture)


def cases(names: list[str], root: Path, *, images: int) -> Iterator[tuple[str, Case]]:
    """The named cases, made below `root` as they are asked for; one that can't be is told."""
    for name in names:
        if name.startswith("ViT-B-32"):
            yield name, _large(root, images, repeats=name.endswith("repeats"))
        elif name == "sample":
            yield name, _sample()
        elif (REAL / name).is_dir():
            yield name, _photographs(name, root)
        else:
            print(f"{name}: no such case, and {REAL / name} is not there")


def asked_for(**values: Any) -> dict[str, Any]:
    """Params of `finetune`: those of params.yaml, EQUAL, and these."""
    return {**params_of.load(Params).finetune.model_dump(), **EQUAL, **values}


def made_pairs(source: Path, images: int, *, threads: int = THREADS) -> pd.DataFrame:
    """So many made pictures of 640×480 to train on, HELD_OUT to validate on; a caption each."""
    count = images + HELD_OUT
    made = make(source, count, sizes=((640, 480),), threads=threads)
    pairs = made.drop_duplicates("image_id")
    pairs["split"] = np.where(np.arange(len(pairs)) < images, "train", "val")
    return pairs


def _large(root: Path, images: int, *, repeats: bool) -> Case:
    """Made pictures of 640×480 with a caption each: all distinct, or of ten classes."""
    selected, source = root / f"large{repeats}", root / "source"
    pairs = made_pairs(source, images)
    if repeats:
        pairs["caption"] = [f"a photo of a {CLASSES[i % 10]}" for i in range(len(pairs))]
    selected.mkdir()
    write_table(pairs, PAIR, selected / PAIRS_FILE)
    base = root / "ViT-B-32"
    if not base.is_dir():
        saved("ViT-B-32", base)
    goal = 1.5 if repeats else 1.35
    return Case(
        selected, source, "ViT-B-32", base, asked_for(batch_size=64, lr=1e-5, epochs=2), None,
        {"first": goal, "later": goal},
    )  # fmt: skip


def _sample() -> Case:
    if not (paths.SELECTED / PAIRS_FILE).is_file():
        raise SystemExit("the sample is not there: `make repro` makes it and its base model")
    return Case(
        paths.SELECTED, SAMPLE, "scenes-resnet", BASE, asked_for(epochs=4), 10, {"later": 1.8},
        ("top1", "image_to_text_r1", "text_to_image_r1"),
    )  # fmt: skip


def _photographs(name: str, root: Path) -> Case:
    """Real photographs, checked and cleaned, with the sample's small model.

    Retrieval by picture means nothing where a caption belongs to hundreds: zero-shot counts.
    """
    params = params_of.load(Params)
    data = params.data.model_copy(update={"source": str(REAL / name), "image_root": "images"})
    base = ModelParams(name="scenes-resnet", pretrained=f"../{BASE}")
    folder = root / name
    tokens = token_counter(base)
    validate(
        data, params.limits, count_tokens=tokens.count, token_limit=tokens.limit,
        folder=folder / "valid", packed=folder / "packed", quality=folder / "quality",
        accepted=folder / "accepted.json", cache=None, failed=folder / "failed",
    )  # fmt: skip
    clean(folder / "valid", folder / "clean", params.clean, seed=params.seed)
    for part in ("valid", "quality"):
        with suppress(OSError):
            shutil.rmtree(folder / part)
    return Case(
        folder / "clean", REAL / name, "scenes-resnet", BASE, asked_for(epochs=4), 10,
        {"later": 1.8}, ("top1",),
    )  # fmt: skip
