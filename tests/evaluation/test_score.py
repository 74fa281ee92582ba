"""One model on one set, from embeddings that a person can follow."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.places import Place
from pipeline.errors import ModelError
from pipeline.evaluation import retrieval
from pipeline.evaluation.bootstrap import value
from pipeline.evaluation.labels import NUMBERS
from pipeline.evaluation.score import METRICS, Embedded, Scored, embedded, scored
from pipeline.evaluation.sets import EvalSet
from pipeline.params import Params
from tests.drawing import COLOURS, draw

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fox"]
UNIT = np.eye(6, dtype=np.float32)


def of(
    images: np.ndarray,
    labels: list[str | None],
    classes: list[str],
    captions: list[str] | None = None,
) -> Scored:
    """Images with a caption each; texts and class weights are the axes."""
    count = len(images)
    pairs = pd.DataFrame(
        {
            "image_id": [f"{i:02}" for i in range(count)],
            "image": [f"{i}.png" for i in range(count)],
            "caption": captions or [f"caption {i}" for i in range(count)],
            "label": pd.Series(labels, dtype=object),
        }
    )
    texts = UNIT[: pairs["caption"].nunique()]
    found = Embedded(images, texts, UNIT[: len(classes)] if len(classes) > 1 else None, 10.0)
    return scored(found, EvalSet(pairs, classes, {}))


def values(found: Scored) -> dict[str, float]:
    return {name: value(metric) for name, metric in found.metrics.items()}


def test_every_metric_of_a_labelled_set() -> None:
    # Images 0 and 1 are ants and look like ant and bee, 2 is a bee and looks like it.
    found = of(UNIT[[0, 1, 1]], ["ant", "ant", "bee"], CLASSES)
    got = values(found)
    assert list(got) == list(METRICS)
    assert (got["top1"], got["top5"]) == (pytest.approx(2 / 3), 1)
    assert got["mean_per_class"] == pytest.approx((1 / 2 + 1) / 2)
    # Texts 0, 1, 2 are axes 0, 1, 2. Image 2's own scores 0, after text 1 and, by place, text 0.
    assert got["image_to_text_r1"] == pytest.approx(2 / 3)
    assert got["image_to_text_mrr"] == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert got["image_to_text_median_rank"] == 1
    # Text 2 scores 0 with each image, so its own stands third.
    assert got["text_to_image_map"] == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_details_stand_beside_the_metrics() -> None:
    found = of(UNIT[[0, 1, 1]], ["ant", "ant", "bee"], CLASSES).details
    assert found["omitted"] == {}
    assert (found["chance"], found["labelled"], found["texts"]) == (1 / 6, 3, 3)
    assert found["majority"] == {"class": "ant", "share": 2 / 3}
    assert found["classes_without_images"] == ["cat", "dog", "elk", "fox"]
    sure = 1 / (1 + 5 * np.exp(-10))
    assert found["ece"] == pytest.approx(sure - 2 / 3)
    assert found["reliability"][0]["images"] == 3
    assert found["per_class"][0]["mistaken_for"] == "bee"
    assert json.loads(json.dumps(found)) == found


def test_a_class_without_images_is_not_counted_as_missed() -> None:
    found = of(UNIT[[0, 1]], ["ant", "bee"], CLASSES)
    assert values(found)["mean_per_class"] == 1
    assert found.details["per_class"][2]["recall"] is None


def test_images_without_a_label_are_left_out_of_accuracy() -> None:
    found = of(UNIT[[0, 1, 1]], ["ant", None, "bee"], CLASSES)
    assert values(found)["top1"] == 1
    assert found.details["labelled"] == 2
    assert found.said["label"].tolist() == ["ant", "bee", "bee"]


@pytest.mark.parametrize(
    ("labels", "classes", "why"),
    [
        (["ant", "ant"], ["ant"], "the set has one class, 'ant': any answer would be right"),
        ([None, None], [], "the set has no labels"),
        ([None, None], CLASSES, "no image of the set has a label"),
    ],
)
def test_what_accuracy_can_not_say_is_left_out_with_its_reason(
    labels: list[str | None], classes: list[str], why: str
) -> None:
    found = of(UNIT[:2], labels, classes)
    assert "top1" not in found.metrics
    assert found.metrics["image_to_text_r1"]
    assert found.details == {"omitted": {"classification": why}, "texts": 2}
    assert found.said["label"].isna().all()


def test_captions_that_are_the_classes_are_not_searched() -> None:
    labels = ["ant", "bee"]
    pairs = pd.DataFrame({"image_id": ["0", "1"], "caption": labels, "label": labels})
    data = EvalSet(pairs, CLASSES, {}, unsearched="its images have classes and no captions")
    found = scored(Embedded(UNIT[:2], UNIT[:2], UNIT, 10.0), data)
    assert list(found.metrics) == ["top1", "top5", "mean_per_class"]
    assert found.details["omitted"] == {"retrieval": "its images have classes and no captions"}


def test_a_set_is_asked_for_with_its_own_prompts(
    tiny: Clip, tmp_path: Path, defaults: Params
) -> None:
    draw(tmp_path / "0.png", COLOURS["red"], size=(32, 32))
    places = {"0": Place(tmp_path / "0.png")}
    pairs = pd.DataFrame({"image_id": ["0"], "caption": ["ant"], "label": ["ant"]})

    def weights(**own: Any) -> np.ndarray:
        data = EvalSet(pairs, ["ant", "bee"], places, **own)
        params = defaults.evaluate.model_copy(update={"templates": ["a photo of a {}."]})
        found = embedded(tiny, data, Crops(tiny, places), params, device=torch.device("cpu"))
        assert found.weights is not None
        return np.asarray(found.weights)

    plain, own = weights(), weights(templates=["a nest of the {}"])
    assert not np.allclose(own, plain, atol=1e-3)
    assert np.array_equal(plain, weights(templates=["a photo of a {}."]))
    other = weights(synonyms={"bee": ["wasp"]})
    assert np.allclose(other[0], plain[0], atol=1e-6)
    assert not np.allclose(other[1], plain[1], atol=1e-3)


def test_numbers_without_names_are_left_out_and_told() -> None:
    pairs = pd.DataFrame({"image_id": ["0", "1"], "caption": ["a", "b"], "label": [None, None]})
    data = EvalSet(pairs, [], {}, unnamed=NUMBERS)
    found = scored(Embedded(UNIT[:2], UNIT[:2], None, 10.0), data)
    assert found.details["omitted"] == {"classification": NUMBERS}


def test_of_five_classes_the_best_five_say_nothing() -> None:
    found = of(UNIT[[0, 1]], ["ant", "bee"], CLASSES[:5])
    assert "top5" not in found.metrics
    assert found.details["omitted"] == {"top5": "of 5 classes any answer is among the best 5"}


def test_captions_equal_to_a_reader_find_each_others_images() -> None:
    """Both images carry text 0, which is like image 1: a hit for both, either way."""
    found = of(UNIT[[1, 0]], ["ant", "ant"], ["ant"], captions=["A cat.", "A cat."])
    got = values(found)
    assert got["text_to_image_r1"] == got["image_to_text_r1"] == got["text_to_image_map"] == 1
    assert found.details["texts"] == 1


def test_embeddings_that_are_no_numbers_are_no_perfect_score() -> None:
    with pytest.raises(ModelError, match="embeddings of images are not finite"):
        of(UNIT[:2] * np.nan, ["ant", "bee"], CLASSES)
    recalls = retrieval.recalls(UNIT[:2] * np.nan, UNIT[:2], np.arange(2))
    assert recalls == dict.fromkeys(retrieval.recalls(UNIT[:2], UNIT[:2], np.arange(2)), 0.0)
