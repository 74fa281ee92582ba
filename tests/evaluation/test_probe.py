"""Which images the classifiers learn from, what is chosen where, and what is told of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.places import Place
from pipeline.evaluation import probe
from pipeline.evaluation.probe import Labelled, answers, drawn, labels_of, second_opinion
from pipeline.evaluation.sets import EvalSet
from pipeline.params import Params, ProbeParams
from pipeline.reporting import details
from tests.drawing import COLOURS, draw

CPU = torch.device("cpu")


def asked(**changed: object) -> ProbeParams:
    return ProbeParams(**{"k": 3, "l2": [1e-2, 1e-4], "max_train": 100, **changed})


def labels(text: str) -> pd.Series:
    """A letter an image."""
    return pd.Series(list(text), index=[f"{i:03}" for i in range(len(text))], dtype=object)


def noisy(count: int, seed: int, noise: float, order: list[int]) -> Labelled:
    """Unit vectors near the axis of their class, as `order` maps classes to axes."""
    random = np.random.default_rng(seed)
    actual = np.arange(count) % len(order)
    vectors = np.eye(8)[np.array(order)[actual]] + noise * random.normal(size=(count, 8))
    return Labelled(
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), actual
    )


def test_images_are_drawn_from_each_label_alike_and_none_is_lost() -> None:
    given = labels("a" * 60 + "b" * 30 + "c" * 9 + "d")
    kept = drawn(given, 20, seed=0)
    assert kept.value_counts().to_dict() == {"a": 11, "b": 6, "c": 2, "d": 1}
    assert kept.index.is_monotonic_increasing
    assert kept.equals(drawn(given, 20, seed=0))
    assert not kept.equals(drawn(given, 20, seed=1))
    assert drawn(given, 100, seed=0).equals(given)


def test_an_image_counts_once_whatever_the_order_of_its_rows() -> None:
    rows = [("2", "b"), ("1", None), ("0", "a"), ("1", "c"), ("3", None), ("2", "b")]
    pairs = pd.DataFrame(rows, columns=["image_id", "label"])
    assert labels_of(EvalSet(pairs, [], {})).to_dict() == {"0": "a", "1": "c", "2": "b"}
    assert list(labels_of(EvalSet(pairs[::-1], [], {})).index) == ["0", "1", "2"]


def test_validation_chooses_the_strength_and_test_has_no_say() -> None:
    train, val = noisy(60, 0, 1.0, [0, 1, 2]), noisy(90, 1, 1.0, [0, 1, 2])
    strengths = [1.0, 1e-1, 1e-2, 1e-3, 1e-5]
    alone = {
        l2: answers(train, val, val, asked=asked(l2=[l2]), classes=3).linear for l2 in strengths
    }
    right = {l2: (said == val.actual).mean() for l2, said in alone.items() if said is not None}
    assert len(set(right.values())) > 1
    best = max(strengths, key=lambda l2: right[l2])
    for test in (noisy(90, 2, 1.0, [0, 1, 2]), noisy(90, 2, 1.0, [1, 2, 0])):
        found = answers(train, val, test, asked=asked(l2=strengths), classes=3)
        assert (found.chosen["l2"], found.chosen["val"]) == (best, right[best])
        assert found.chosen["converged"]


def test_of_equally_good_strengths_the_strongest_is_kept() -> None:
    train, val = noisy(30, 0, 0.01, [0, 1, 2]), noisy(30, 1, 0.01, [0, 1, 2])
    found = answers(train, val, val, asked=asked(l2=[1e-4, 1e-2, 1e-3]), classes=3)
    assert (found.chosen["l2"], found.chosen["val"], found.chosen["at_end"]) == (1e-2, 1, True)
    assert found.linear is not None
    assert (found.linear == val.actual).all()


def test_without_validation_labels_one_strength_can_be_used_and_several_not() -> None:
    train, none = noisy(30, 0, 0.01, [0, 1]), Labelled(np.empty((0, 0), np.float32), np.empty(0))
    found = answers(train, none, train, asked=asked(), classes=2)
    assert found.linear is None
    assert (found.knn == train.actual).all()
    found = answers(train, none, train, asked=asked(l2=[1e-3]), classes=2)
    assert (found.linear == train.actual).all()
    assert (found.chosen["val"], found.chosen["at_end"]) == (None, False)


def test_a_class_that_training_lacks_is_never_said() -> None:
    train, test = noisy(40, 0, 0.01, [0, 2]), noisy(6, 1, 0.01, [0, 1, 2])
    train = Labelled(train.images, np.array([0, 2])[train.actual])
    found = answers(train, train, test, asked=asked(), classes=3)
    for said in (found.knn, found.linear):
        assert said is not None
        assert set(said) == {0, 2}
        assert (said == test.actual).mean() == pytest.approx(2 / 3)


@dataclass
class Split:
    """Drawn pictures of a split."""

    data: EvalSet
    crops: Crops


def split(clip: Clip, folder: Path, name: str, colours: list[str | None]) -> Split:
    """A picture for each colour, which is its label; None: a grey one without."""
    rows, places = [], {}
    for i, colour in enumerate(colours):
        path = folder / name / f"{i}.png"
        draw(path, COLOURS[colour or "grey"], seed=len(rows) + 100 * len(name), size=(40, 40))
        rows.append((f"{name}{i:02}", colour))
        places[f"{name}{i:02}"] = Place(path)
    pairs = pd.DataFrame(rows, columns=["image_id", "label"])
    pairs["label"] = pairs["label"].astype(object)
    return Split(EvalSet(pairs, [], places), Crops(clip, places))


def opinion(
    clip: Clip,
    folder: Path,
    defaults: Params,
    *,
    train: list[str | None],
    val: list[str | None],
    test: list[str | None],
    **changed: Any,
) -> dict[str, Any]:
    parts = {"train": train, "val": val, "test": test}
    made = {name: split(clip, folder, name, colours) for name, colours in parts.items()}
    how = {"probe": asked(), "bootstrap": 50, **changed}
    found = second_opinion(
        (clip, clip),
        lambda: made["train"],
        made["val"],
        made["test"],
        defaults.evaluate.model_copy(update=how),
        same=False,
        seed=0,
        device=CPU,
    )
    assert json.loads(json.dumps(found)) == found
    return found


THREE: list[str | None] = ["red", "green", "blue"]


def test_pictures_of_real_files_are_probed_from_end_to_end(
    tiny: Clip, tmp_path: Path, defaults: Params
) -> None:
    found = opinion(
        tiny, tmp_path, defaults, train=[*THREE * 6, None], val=THREE * 2, test=[*THREE * 2, None]
    )
    none = {"value": 0, "low": 0, "high": 0}
    assert found["knn"] == found["linear"] == {"base": 1, "final": 1, "gain": none}
    assert found["images"] == {"train": 18, "val": 6, "test": 6}
    assert (found["k"], found["labelled"], found["omitted"]) == (3, 18, {})
    assert found["unseen"] == {"classes": [], "images": 0}
    assert len(details.opinions({"probe": found})) == 2


def test_what_narrows_it_is_told_to_the_reader(
    tiny: Clip, tmp_path: Path, defaults: Params
) -> None:
    train: list[str | None] = ["red", "green"] * 4
    found = opinion(
        tiny, tmp_path, defaults, train=train, val=["blue", None], test=THREE * 2,
        probe=asked(k=20, max_train=6),
    )  # fmt: skip
    assert found["knn"]["final"] == pytest.approx(2 / 3)
    assert (found["k"], found["images"]["train"], found["labelled"]) == (6, 6, 8)
    assert found["unseen"] == {"classes": ["blue"], "images": 2}
    assert "linear" not in found
    linear, cap, unseen = details.limits({"probe": found})
    assert probe.NO_VALIDATION in linear
    assert "6 of 8 labelled" in cap
    assert "2 can't be named rightly" in unseen
    assert unseen.endswith("blue.")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"probe": None}, "evaluate.probe is null"),
        ({"test": [None]}, "no test picture has a label"),
        ({"train": [None]}, "no training picture has a label"),
        ({"train": ["red", "red"]}, "the training pictures have one label, 'red'"),
    ],
)
def test_what_cannot_be_probed_is_left_out_with_its_reason(
    tiny: Clip, tmp_path: Path, defaults: Params, given: dict[str, Any], why: str
) -> None:
    found = opinion(
        tiny, tmp_path, defaults, **{"train": THREE, "val": THREE, "test": THREE, **given}
    )
    assert list(found) == ["omitted"]
    results = {"target": {"classes": 3, "details": {}}, "general": {}, "probe": found}
    said = details.left_out(results, confused=True, searched=True, drawn=True)
    assert said["A second opinion"].startswith(why)
