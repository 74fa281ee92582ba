from dataclasses import replace

import pytest

from pipeline.doctor import plan
from pipeline.doctor.findings import Finding
from pipeline.doctor.seen import Sample
from pipeline.doctor.settings import Settings
from pipeline.training import auto
from tests.doctor.cases import BASE, SHAPE, with_


def problems(settings: Settings, sample: Sample) -> list[tuple[str, str]]:
    return [(f.level, f.key) for f in plan.look(settings, sample, None).findings]


def one(settings: Settings, sample: Sample, key: str) -> Finding:
    (found,) = [f for f in plan.look(settings, sample, BASE).findings if f.key == key]
    return found


def test_steps_by_hand(settings: Settings, sample: Sample) -> None:
    """800 training pictures in batches of 128: 6 steps, ten times; a tenth of 60 is warm-up."""
    images = plan.expected(sample, settings.clean)
    assert images == pytest.approx({"train": 800, "val": 100, "test": 100})
    assert plan.steps_of(images, settings.finetune)[1:] == (6, 60, 6)
    assert problems(settings, sample) == []
    facts = {fact.name: fact.text for fact in plan.look(settings, sample, None).facts}
    assert facts == {
        "images": "train about 800, val about 100, test about 100",
        "steps": "about 60: 10 epochs of 6",
        "warm-up": "6 steps up to a learning rate of 0.0005",
    }


def test_bad_pictures_are_not_counted(settings: Settings, sample: Sample) -> None:
    half = replace(sample, bad={"image_missing": 80, "image_too_small": 20})
    assert plan.expected(half, settings.clean)["train"] == pytest.approx(400)


def test_a_split_of_the_users_own_is_kept_and_filled_from_its_train(
    settings: Settings, sample: Sample
) -> None:
    """Of 1,000 a fifth is test; val is a tenth of the 800 others."""
    own = replace(sample, splits={"train": 160, "test": 40})
    cut = with_(settings, "clean", cut_from_train=["val"])
    expected = {"train": 720, "val": 80, "test": 200}
    assert plan.expected(own, cut.clean) == pytest.approx(expected)
    assert problems(cut, own) == []
    unsure = replace(own, whole=False)
    assert plan.expected(unsure, settings.clean)["test"] == pytest.approx(100)


def test_a_part_that_the_users_split_lacks_stops_unless_it_is_cut(
    settings: Settings, sample: Sample
) -> None:
    bare = replace(sample, splits={"train": 200})
    found = one(settings, bare, "clean.cut_from_train")
    assert found.level == "stops"
    assert "your own split has no val and no test" in found.problem
    assert "[val, test]" in found.remedy
    cut = with_(settings, "clean", cut_from_train=["val", "test"])
    assert plan.expected(bare, cut.clean) == pytest.approx({"train": 800, "val": 100, "test": 100})
    assert problems(cut, bare) == []
    # What was not read may hold the part.
    assert problems(settings, replace(bare, whole=False)) == []


def test_a_batch_above_the_training_pictures_stops(settings: Settings, sample: Sample) -> None:
    found = one(with_(settings, "finetune", batch_size=1024), sample, "finetune.batch_size")
    assert found.level == "stops"
    assert found.problem == (
        "about 800 training pictures are expected: no batch is full, so no step"
    )
    assert found.remedy == "set it to 400, or add data"


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"train": 0.9, "val": 0.1, "test": 0.0}, ("stops", "clean.split.test")),
        ({"train": 0.9, "val": 0.0, "test": 0.1}, ("stops", "clean.split.val")),
        ({"train": 0.89, "val": 0.1, "test": 0.01}, ("hurts", "clean.split.test")),
        ({"train": 0.895, "val": 0.005, "test": 0.1}, ("hurts", "clean.split.val")),
    ],
)
def test_a_split_too_small_is_a_problem(
    settings: Settings, sample: Sample, shares: dict[str, float], expected: tuple[str, str]
) -> None:
    assert problems(with_(settings, "clean", split=shares), sample) == [expected]


@pytest.mark.parametrize(
    ("values", "key", "level"),
    [
        ({"warmup": 0.0}, "finetune.warmup", "note"),
        ({"warmup": 0.99}, "finetune.warmup", "stops"),
        ({"batch_size": 16}, "finetune.batch_size", "hurts"),
        ({"batch_size": 500}, "finetune.batch_size", "note"),
        ({"epochs": 1}, "finetune.epochs", "hurts"),
    ],
)
def test_settings_that_harm_a_training(
    settings: Settings, sample: Sample, values: dict[str, object], key: str, level: str
) -> None:
    chosen = with_(settings, "finetune", lr=1e-5, **values)
    assert one(chosen, sample, key).level == level


def test_a_learning_rate_for_training_from_scratch_is_told(
    settings: Settings, sample: Sample
) -> None:
    assert one(settings, sample, "finetune.lr").level == "hurts"
    small = replace(BASE, shape=replace(SHAPE, parameters=5_000_000))
    own = plan.look(settings, sample, small).findings
    low = plan.look(with_(settings, "finetune", lr=1e-4), sample, BASE).findings
    assert own == low == []
    unseen = plan.look(settings, None, BASE).findings
    assert [finding.key for finding in unseen] == ["finetune.lr"]


def test_what_auto_will_be_is_told(settings: Settings, sample: Sample) -> None:
    """800 training pictures: batches of 64 (800 / 8 = 100), 12 an epoch; 1e-5 × √½."""
    chosen = with_(settings, "finetune", **dict.fromkeys(auto.CHOICES, "auto"))
    look = plan.look(chosen, sample, BASE)
    facts = {fact.name: fact for fact in look.facts}
    assert look.findings == []
    assert facts["auto will be"].text == (
        "epochs 30, batch_size 64, lr 7.1e-06, weight_decay 0.1, warmup 0.2"
    )
    assert facts["steps"].value == {"all": 360, "epoch": 12}
    assert facts["warm-up"].text == "72 steps up to a learning rate of 7.1e-06"
    # Without the source, nothing can be foreseen.
    assert plan.look(chosen, None, BASE) == ([], [])


@pytest.mark.parametrize(
    ("common", "level"), [(150, "hurts"), (192, "hurts"), (197, "stops"), (100, None)]
)
def test_captions_that_repeat_are_told_as_far_as_the_sample_can_tell(
    settings: Settings, sample: Sample, common: int, level: str | None
) -> None:
    """Of 200 captions so many are one; 192 make 92 % twins, too near to 90 to be sure."""
    captions = ["the same"] * common + [f"number {i}" for i in range(200 - common)]
    alike = replace(sample, captions=captions)
    found = [f.level for f in plan.look(settings, alike, None).findings]
    assert found == ([level] if level else [])
    assert problems(settings, replace(alike, whole=False)) == []


@pytest.mark.parametrize(("cut", "level"), [(10, None), (30, "hurts"), (96, "stops")])
def test_captions_that_the_model_cuts(
    settings: Settings, sample: Sample, cut: int, level: str | None
) -> None:
    tokens = [78] * cut + [77] * (100 - cut)
    low = with_(settings, "finetune", lr=1e-5)
    found = plan.look(low, sample, BASE, tokens).findings
    expected = [(level, "finetune.max_truncated")] if level else []
    assert [(f.level, f.key) for f in found] == expected
