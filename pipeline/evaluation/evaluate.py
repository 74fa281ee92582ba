"""The evaluate stage's one call: the model to use, and what it is worth beside its base."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.clip import device as devices
from pipeline.clip.model import Clip, load, load_folder, locate
from pipeline.clip.pixels import Crops
from pipeline.data.places import Places
from pipeline.evaluation import probe, prompts, sets, slices
from pipeline.evaluation.bootstrap import paired_gains, value
from pipeline.evaluation.headline import HEADLINES, headline
from pipeline.evaluation.interpolate import Choice, Point, alike, between, choose
from pipeline.evaluation.labels import NO_CAPTIONS
from pipeline.evaluation.score import METRICS, NOTHING, Known, Scored, embedded, scored
from pipeline.evaluation.sets import EvalSet
from pipeline.params import EvaluateParams, ModelParams


class Evaluation(NamedTuple):
    """What was found.

    Attributes:
        results: `target` and `general` by name → images, captions, classes, chance; base, finetuned
            and final (metric → value, null where it says nothing); gain, of final over base, and
            gain_finetuned (metric → value, low, high); details of base and final (see score.py).
            `captions` is 0 where a set has classes alone. Of a general set also `trained`: how many
            of its images were trained on.
            `alpha` and `choice`: see interpolate.py; of the target `slices` and `probe`: see
            slices.py, probe.py.
        curve: a row for each point and set: alpha, set (`target`, by its validation split, or a
            general set's name), metric, value.
        predictions: names of sets → a row an image: what base and final model said of it.
        searches: a few searches of the final model on the target with their first answers: set,
            and the columns of top.py.
        places: the same names → where each image lies, by its id.
        final: the model to use.
        prompts: with what classes were asked for on the target (prompts.recorded).
    """

    results: dict[str, Any]
    curve: pd.DataFrame
    predictions: dict[str, pd.DataFrame]
    searches: pd.DataFrame
    places: dict[str, Places]
    final: Clip
    prompts: dict[str, Any]


@dataclass
class _Measured:
    """A set, its crops, what models made of it by their alpha, and what all embed alike."""

    data: EvalSet
    crops: Crops
    scored: dict[float, Scored]
    known: Known = NOTHING


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
    columns: pd.DataFrame,
) -> Evaluation:
    """Choose the model to use, and score it, both ends of its line, and no other on the test split.

    The choice is made on the validation split and the general sets. Images of a general set that
    came inside other files are unpacked to `scratch`.

    `columns`: by which the test pictures are cut as well, by `source_row`.
    Raises DataError when there is nothing to score, ModelError when a model does not load.
    """
    device = devices.prepare(cpu_threads=cpu_threads)
    before = load(locate(base.pretrained), architecture=base.name)
    after = load_folder(finetuned)
    for clip in (before, after):
        clip.model.to(device)
    same = alike(before, after)

    def measured(data: EvalSet) -> _Measured:
        return _Measured(data, Crops(before, data.places), {})

    def measure(one: _Measured, clip: Clip, alpha: float) -> None:
        if alpha not in one.scored:
            found = embedded(clip, one.data, one.crops, params, device=device, known=one.known)
            one.scored[alpha] = scored(found, one.data, device=device)
            one.known = Known(
                found.images if same.images else None,
                *((found.texts, found.weights) if same.texts else (None, None)),
            )

    val, test = (
        measured(sets.target(clean, source, packed=packed, split=split))
        for split in ("val", "test")
    )
    general = {
        name: measured(data)
        for name, data in sets.general(
            Path(params.general),
            scratch=scratch,
            template=prompts.caption_template(params.templates),
        ).items()
    }
    trained = sets.trained_on(clean)
    prompts.check_synonyms(params.synonyms, [one.data.classes for one in (test, *general.values())])
    for alpha in sorted({0.0, *params.alphas, 1.0}):
        clip = between(before, after, alpha)
        for one in (val, *general.values()):
            measure(one, clip, alpha)
    bound = None if params.max_forgetting is None else params.max_forgetting / 100
    choice = choose(_points(val, general, {0.0, *params.alphas}), max_forgetting=bound)
    alpha = choice.point.alpha
    final = between(before, after, alpha)
    for clip, at in ((before, 0.0), (after, 1.0), (final, alpha)):
        measure(test, clip, at)
    named = {sets.TARGET: test, **general}
    predictions = {name: _said(one, alpha) for name, one in named.items()}
    results = {name: _compare(one, alpha, params=params, seed=seed) for name, one in named.items()}
    return Evaluation(
        results={
            sets.TARGET: results.pop(sets.TARGET),
            "general": {
                name: {**one, "trained": len(trained & general[name].data.places.keys())}
                for name, one in results.items()
            },
            "alpha": alpha,
            "choice": _told(choice, headline(val.scored[0.0].metrics)),
            "slices": slices.table(
                slices.cuts(test.data.pairs, columns),
                predictions[sets.TARGET],
                metric=headline(test.scored[0.0].metrics),
                least=params.slices.least,
                resamples=params.bootstrap,
                confidence=params.confidence,
                seed=seed,
            ),
            "probe": probe.second_opinion(
                (before, final),
                lambda: measured(sets.target(clean, source, packed=packed, split="train")),
                val,
                test,
                params,
                same=same.images or alpha == 0.0,
                seed=seed,
                device=device,
            ),
        },
        curve=_curve({sets.TARGET: val, **general}),
        predictions=predictions,
        searches=test.scored[alpha].searches.assign(set=sets.TARGET),
        places={name: one.data.places for name, one in named.items()},
        final=final,
        prompts=prompts.recorded(params.templates, test.data.classes, params.synonyms),
    )


def _points(val: _Measured, general: dict[str, _Measured], alphas: set[float]) -> list[Point]:
    return [
        Point(alpha, _figure(val, alpha), {name: _figure(g, alpha) for name, g in general.items()})
        for alpha in sorted(alphas)
    ]


def _figure(one: _Measured, alpha: float) -> float:
    metrics = one.scored[alpha].metrics
    return value(metrics[headline(metrics)])


def _told(choice: Choice, metric: str) -> dict[str, Any]:
    """Shares, but for the two alphas."""
    return {
        "metric": metric,
        "validation": choice.point.target,
        "forgotten": choice.forgotten,
        "max_forgetting": choice.bound,
        "alpha_without_bound": choice.unbound.alpha,
        "validation_without_bound": choice.unbound.target,
    }


def _curve(measured: dict[str, _Measured]) -> pd.DataFrame:
    rows = [
        (alpha, name, metric, value(scored.metrics[metric]))
        for name, one in measured.items()
        for alpha, scored in one.scored.items()
        for metric in HEADLINES
        if metric in scored.metrics
    ]
    return pd.DataFrame(rows, columns=["alpha", "set", "metric", "value"])


def _compare(one: _Measured, alpha: float, *, params: EvaluateParams, seed: int) -> dict[str, Any]:
    classes = one.data.classes
    base, finetuned, final = (one.scored[at] for at in (0.0, 1.0, alpha))
    models = {1.0: finetuned, alpha: final}
    found = paired_gains(
        base.metrics,
        [model.metrics for model in models.values()],
        resamples=params.bootstrap,
        confidence=params.confidence,
        seed=seed,
    )
    gains = dict(zip(models, found, strict=True))
    return {
        "images": len(base.said),
        "captions": 0 if one.data.unsearched == NO_CAPTIONS else len(one.data.pairs),
        "classes": len(classes) or None,
        "chance": 1 / len(classes) if "top1" in base.metrics else None,
        "base": _values(base),
        "finetuned": _values(finetuned),
        "final": _values(final),
        "gain": gains[alpha],
        "gain_finetuned": gains[1.0],
        "details": {"base": base.details, "final": final.details},
    }


def _values(scored: Scored) -> dict[str, float | None]:
    known = scored.metrics
    return {name: value(known[name]) if name in known else None for name in METRICS}


def _said(one: _Measured, alpha: float) -> pd.DataFrame:
    first = one.data.pairs.drop_duplicates("image_id")[["image_id", "image", "caption", "label"]]
    both = one.scored[0.0].said.merge(
        one.scored[alpha].said, on="image_id", suffixes=("_base", "_final")
    )
    both = both.rename(
        columns={
            f"{what}_{model}": f"{model}_{what}"
            for what in ("label", "score", "rank_i2t")
            for model in ("base", "final")
        }
    )
    return first.merge(both, on="image_id").sort_values("image_id", ignore_index=True)
