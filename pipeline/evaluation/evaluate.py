"""The evaluate stage's one call: base and fine-tuned model side by side, with intervals."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.clip import device as devices
from pipeline.clip.model import load, load_folder, locate
from pipeline.clip.pixels import Crops
from pipeline.data.places import Places
from pipeline.evaluation import sets
from pipeline.evaluation.bootstrap import paired_gain, value
from pipeline.evaluation.score import METRICS, Scored, score
from pipeline.evaluation.sets import EvalSet
from pipeline.params import EvaluateParams, ModelParams


class Evaluation(NamedTuple):
    """What was found.

    Attributes:
        results: `target` and `general` by name → images, captions, classes, chance, base,
            finetuned (metric → share, null without labels), gain (metric → value, low, high).
        predictions: the same names → a row an image: what both models said of it.
        places: the same names → where each image lies, by its id.
    """

    results: dict[str, Any]
    predictions: dict[str, pd.DataFrame]
    places: dict[str, Places]


def evaluate(
    clean: Path,
    source: Path,
    finetuned: Path,
    params: EvaluateParams,
    *,
    packed: Path,
    scratch: Path,
    base: ModelParams,
    seed: int,
    cpu_threads: int,
) -> Evaluation:
    """Score both models on the target's test split and on each general set.

    Images of a general set that came inside other files are unpacked to `scratch`.

    Raises DataError when there is nothing to score, ModelError when a model does not load.
    """
    device = devices.prepare(cpu_threads=cpu_threads)
    before = load(locate(base.pretrained), architecture=base.name)
    after = load_folder(finetuned)
    named = {
        sets.TARGET: sets.target(clean, source, packed=packed),
        **sets.general(Path(params.general), scratch=scratch, template=params.templates[0]),
    }
    compared = {}
    for name, data in named.items():
        crops = Crops(before, data.places)
        scored = [score(clip, data, crops, params, device=device) for clip in (before, after)]
        compared[name] = _compare(data, *scored, params=params, seed=seed)
    results = {name: found for name, (found, _) in compared.items()}
    return Evaluation(
        results={sets.TARGET: results.pop(sets.TARGET), "general": results},
        predictions={name: said for name, (_, said) in compared.items()},
        places={name: data.places for name, data in named.items()},
    )


def _compare(
    data: EvalSet, base: Scored, finetuned: Scored, *, params: EvaluateParams, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    found = {
        "images": len(base.said),
        "captions": len(data.pairs),
        "classes": len(data.classes) or None,
        "chance": 1 / len(data.classes) if data.classes else None,
        "base": _values(base),
        "finetuned": _values(finetuned),
        "gain": {
            name: paired_gain(
                base.metrics[name],
                finetuned.metrics[name],
                resamples=params.bootstrap,
                confidence=params.confidence,
                seed=seed,
            )
            for name in base.metrics
        },
    }
    return found, _said(data, base, finetuned)


def _values(scored: Scored) -> dict[str, float | None]:
    known = scored.metrics
    return {name: value(known[name]) if name in known else None for name in METRICS}


def _said(data: EvalSet, base: Scored, finetuned: Scored) -> pd.DataFrame:
    first = data.pairs.drop_duplicates("image_id")[["image_id", "image", "caption", "label"]]
    both = base.said.merge(finetuned.said, on="image_id", suffixes=("_base", "_finetuned"))
    both = both.rename(
        columns={
            f"{what}_{model}": f"{model}_{what}"
            for what in ("label", "score", "rank_i2t")
            for model in ("base", "finetuned")
        }
    )
    return first.merge(both, on="image_id").sort_values("image_id", ignore_index=True)
