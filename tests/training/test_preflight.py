"""What is refused before training, and what is told."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.clip.model import Clip
from pipeline.errors import TrainingError
from pipeline.params import Params
from pipeline.training import looking, preflight
from pipeline.training.auto import Settled
from pipeline.training.preflight import Outlook

GOOD = Outlook(1000, "the training split has 1,000 pictures", 5_000_000, 0.01, 0.0)


def settled(defaults: Params, **values: Any) -> Settled:
    return Settled.model_validate({**defaults.finetune.model_dump(), **values})


def found(defaults: Params, outlook: Outlook, **values: Any) -> list[tuple[bool, str]]:
    doubts = preflight.doubts(settled(defaults, **values), outlook)
    return [(doubt.stops, doubt.key) for doubt in doubts]


@pytest.mark.parametrize(
    ("changes", "values", "expected"),
    [
        ({}, {}, []),
        ({"images": 127}, {}, [(True, "finetune.batch_size")]),
        ({}, {"warmup": 0.99}, [(True, "finetune.warmup")]),
        ({}, {"batch_size": 16}, [(False, "finetune.batch_size")]),
        ({}, {"epochs": 2}, [(False, "finetune.epochs")]),
        ({"parameters": 151_000_000}, {}, [(False, "finetune.lr")]),
        ({"parameters": 151_000_000}, {"method": "lora"}, []),
        ({"parameters": 151_000_000}, {"lr": 1e-5}, []),
        ({"parameters": None}, {}, []),
        ({"twins": 0.5}, {}, []),
        ({"twins": 0.51}, {}, [(False, "finetune.max_twins")]),
        ({"twins": 0.91}, {}, [(True, "finetune.max_twins")]),
        ({"twins": 0.91}, {"max_twins": None}, [(False, "finetune.max_twins")]),
        ({"truncated": 0.3}, {}, [(False, "finetune.max_truncated")]),
        ({"truncated": 0.91}, {}, [(True, "finetune.max_truncated")]),
        ({"truncated": 1.0}, {"max_truncated": 1.0}, [(False, "finetune.max_truncated")]),
        ({"twins": None, "truncated": None}, {}, []),
    ],
)
def test_what_is_doubted(
    defaults: Params,
    changes: dict[str, Any],
    values: dict[str, Any],
    expected: list[tuple[bool, str]],
) -> None:
    assert found(defaults, GOOD._replace(**changes), **values) == expected


def test_all_reasons_are_told_at_once_with_what_would_work(defaults: Params) -> None:
    told: list[str] = []
    outlook = GOOD._replace(twins=0.95, truncated=0.3)
    with pytest.raises(TrainingError) as error:
        preflight.check(settled(defaults, warmup=0.99), outlook, tell=told.append)
    first, second = str(error.value).split("\n       ")
    assert first == (
        "finetune.warmup is 0.99: all 70 steps are warm-up: the learning rate never falls; "
        "set it to 0.1, or raise finetune.epochs"
    )
    assert second == (
        "finetune.max_twins is 0.9: 95% of the pairs of two rows of a batch share picture or "
        "caption: hardly anything is told apart; write captions that tell pictures apart, or "
        "raise it"
    )
    assert [line.partition(":")[0] for line in told] == ["warning"]
    assert "30% of the captions" in told[0]


def by_all_draws(image: list[int], kinds: list[list[int]]) -> float:
    """The share of twins in the mean over every way to draw a row of each image."""
    rows = [[i for i, owner in enumerate(image) if owner == one] for one in sorted(set(image))]
    shares = []
    for drawn in product(*rows):
        twins = [
            any(kind[a] == kind[b] >= 0 for kind in kinds) for a in drawn for b in drawn if a != b
        ]
        shares.append(sum(twins) / len(twins))
    return float(np.mean(shares))


def test_the_share_of_twins_by_hand() -> None:
    """Four pictures, two of one caption: 2 of 12 ordered pairs."""
    image, caption = np.arange(4), np.array([0, 0, 1, 2])
    assert preflight.twin_share(image, [image, caption]) == pytest.approx(2 / 12)
    assert preflight.twin_share(image, [image, np.zeros(4, int)]) == pytest.approx(1.0)
    assert preflight.twin_share(np.zeros(3, int), [np.zeros(3, int)]) == 0.0


def test_the_share_of_twins_is_that_of_all_draws() -> None:
    """Several captions a picture, pictures nearly the same, rows with and without a label."""
    image = [0, 0, 1, 1, 1, 2, 3, 3, 4]
    group = [0, 0, 0, 0, 0, 2, 3, 3, 4]
    caption = [0, 1, 0, 2, 2, 1, 3, 0, 4]
    label = [0, 0, -1, -1, -1, 1, 0, 0, 1]
    kinds = [group, caption, label]
    for used in ([group], [group, caption], kinds, [caption, label]):
        mine = preflight.twin_share(np.array(image), [np.array(kind) for kind in used])
        assert mine == pytest.approx(by_all_draws(image, used), abs=1e-12)
    assert by_all_draws(image, kinds) > by_all_draws(image, [group, caption]) > 0


def pairs(captions: list[str], labels: list[str] | None = None) -> pd.DataFrame:
    ids = [f"{i:03}" for i in range(len(captions))]
    frame = pd.DataFrame({"image_id": ids, "caption": captions})
    return frame if labels is None else frame.assign(label=labels)


def test_the_last_look_chooses_warns_and_refuses(tiny: Clip, defaults: Params) -> None:
    """64 pictures of two captions: 31 of 63 others are twins; of one caption: all are."""
    asked = defaults.finetune.model_copy(update={"batch_size": "auto", "epochs": "auto"})
    told: list[str] = []
    two = pairs(["a red square", "a blue star"] * 32)
    before = next(iter(tiny.model.parameters())).clone()
    made = looking.ready(tiny, two, asked, tell=told.append)
    assert looking.twins(two, same_label="negative") == pytest.approx(31 / 63)
    assert (made.batch_size, made.epochs) == (16, 30)
    assert told[0] == "chosen for 64 pictures, method full: epochs 30, batch_size 16"
    assert [line.split(" is ")[0] for line in told[1:]] == ["warning: finetune.batch_size"]
    assert next(iter(tiny.model.parameters())).equal(before)
    with pytest.raises(TrainingError, match=r"finetune\.max_twins is 0\.9: 100%"):
        looking.ready(tiny, pairs(["a red square"] * 64), asked, tell=told.append)


def test_labels_make_twins_unless_they_are_negatives(defaults: Params) -> None:
    labelled = pairs([f"number {i}" for i in range(8)], ["a", "b"] * 4)
    assert looking.twins(labelled, same_label="negative") == 0
    assert looking.twins(labelled, same_label="ignore") == pytest.approx(3 / 7)


def test_captions_longer_than_the_model_reads_are_counted(tiny: Clip) -> None:
    """The sample's model reads 32 tokens."""
    frame = pairs(["a red square", "word " * 40, "word " * 30, "word " * 31])
    assert looking.truncated(tiny, frame) == 0.5


@pytest.mark.real
def test_captions_that_repeat_hundreds_of_times_can_be_trained(
    real: Any, tiny: Clip, defaults: Params
) -> None:
    """`clothing`: ten captions for 2,148 pictures; a tenth of the pairs of rows are twins."""
    rows = pd.read_csv(real / "clothing" / "captions.csv").rename(columns={"image": "image_id"})
    told: list[str] = []
    looking.ready(tiny, rows, defaults.finetune, tell=told.append)
    assert told == []
    assert looking.twins(rows, same_label="negative") == pytest.approx(0.104, abs=5e-4)
