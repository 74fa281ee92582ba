from dataclasses import replace

import pytest

from pipeline.doctor import unreachable
from pipeline.doctor.seen import Sample
from pipeline.doctor.settings import Settings
from tests.doctor.cases import BASE, CPU, SHAPE, with_

OTHER_METHODS = {"finetune.lora", "finetune.lock"}


def idle(settings: Settings, sample: Sample | None, **seen: object) -> tuple[set[str], set[str]]:
    """Keys told as notes, and keys listed as facts, those of other methods aside."""
    found = unreachable.look(settings, sample, seen.get("base"), seen.get("device"))
    return {f.key for f in found.findings}, {fact.name for fact in found.facts} - OTHER_METHODS


def test_a_table_without_labels(settings: Settings, sample: Sample) -> None:
    unlabelled = {
        "data.caption_template",
        "evaluate.templates",
        "validate.table.unlabelled",
        "validate.table.labels_not_in_split",
        "clean.labels_missing",
    }
    assert idle(settings, sample) == (set(), unlabelled)
    labelled = replace(sample, labelled=True)
    assert idle(settings, labelled) == (set(), {"data.caption_template"})


def test_class_folders_use_the_template(settings: Settings, sample: Sample) -> None:
    folders = replace(sample, format="class_folders", labelled=True)
    assert idle(settings, folders) == (set(), set())


def test_what_was_set_for_nothing_is_a_note(settings: Settings, sample: Sample) -> None:
    shards = replace(sample, format="shards", labelled=True)
    chosen = with_(settings, "data", image_root="images", captions="captions.csv")
    notes, _ = idle(chosen, shards)
    assert notes == {"data.image_root", "data.captions"}
    sidecar = replace(sample, format="sidecar")
    columns = {**settings.data.columns.model_dump(), "caption": "text"}
    notes, _ = idle(with_(settings, "data", columns=columns), sidecar)
    assert notes == {"data.columns.caption"}


def test_keys_behind_a_switch_that_is_off(settings: Settings, sample: Sample) -> None:
    near = {"find": False, "min_similarity": 0.8, "same_image": "set_aside"}
    chosen = with_(settings, "clean", near_captions=near)
    chosen = with_(chosen, "clean", near_images={"find": False, "min_similarity": 0.9})
    notes, facts = idle(chosen, None)
    assert notes == {"clean.near_captions.same_image"}
    assert facts == {"clean.near_captions.min_similarity", "clean.near_images.min_similarity"}


def test_a_small_or_ready_split_source(settings: Settings, sample: Sample) -> None:
    few = replace(sample, pairs=19, labelled=True)
    assert idle(settings, few)[0] == {"clean.strip_frequent"}
    assert idle(settings, replace(few, pairs=20))[0] == set()
    assert idle(with_(settings, "clean", strip_frequent=None), few)[0] == set()
    own = replace(sample, splits={"train": 8, "val": 1, "test": 1}, labelled=True)
    assert "clean.split" in idle(settings, own)[1]
    assert "clean.split" not in idle(settings, replace(own, whole=False))[1]
    cut = with_(settings, "clean", cut_from_train=["val"])
    assert "clean.split" not in idle(cut, own)[1]
    assert "clean.cut_from_train" not in idle(cut, own)[0]
    assert "clean.cut_from_train" in idle(cut, replace(own, splits={}))[0]


@pytest.mark.parametrize("batch_norm", [True, False])
def test_model_and_device(settings: Settings, batch_norm: bool) -> None:
    base = replace(BASE, shape=replace(SHAPE, batch_norm=batch_norm))
    _, facts = idle(settings, None, base=base, device=CPU)
    expected = {"finetune.deterministic"} | (
        set() if batch_norm else {"finetune.freeze_batch_norm"}
    )
    assert facts == expected


@pytest.mark.parametrize(
    ("values", "notes"),
    [
        ({}, set()),
        ({"micro_batch": 128}, {"finetune.micro_batch"}),
        ({"micro_batch": 64}, set()),
        ({"micro_batch": 64, "batch_size": "auto"}, set()),
        ({"patience": 10}, {"finetune.patience"}),
        ({"patience": 9}, set()),
        ({"same_label": "ignore"}, {"finetune.same_label"}),
        (
            {"method": "lit", "tower_lr": {"image": 2.0, "text": 2.0}},
            {"finetune.tower_lr.image", "finetune.augment"},
        ),
        ({"method": "lit"}, {"finetune.augment"}),
        ({"method": "lit", "augment": None}, set()),
        ({"method": "lit", "lock": {"image": 3, "text": "all"}}, set()),
        ({"method": "head"}, {"finetune.augment"}),
        ({"method": "head", "tower_lr": {"image": 2.0, "text": 2.0}}, {"finetune.augment"}),
        ({"method": "lora", "tower_lr": {"image": 2.0, "text": 2.0}}, set()),
    ],
)
def test_settings_of_a_training_without_effect(
    settings: Settings, sample: Sample, values: dict[str, object], notes: set[str]
) -> None:
    assert idle(with_(settings, "finetune", **values), sample)[0] == notes


def test_sections_of_another_method_are_facts(settings: Settings) -> None:
    def listed(method: str) -> set[str]:
        chosen = with_(settings, "finetune", method=method, augment=None)
        found = unreachable.look(chosen, None, None, None)
        assert found.findings == []
        return {fact.name for fact in found.facts}

    assert listed("full") == OTHER_METHODS
    assert listed("lit") == {"finetune.lora"}
    assert listed("lora") == {"finetune.lock"}
    assert listed("head") == OTHER_METHODS


def test_what_a_looked_up_tower_leaves_of_augment_is_said(settings: Settings) -> None:
    whys = {"head": "the method is head", "lit": "finetune.lock.image is all"}
    for method, why in whys.items():
        chosen = with_(settings, "finetune", method=method)
        (one,) = unreachable.look(chosen, None, None, None).findings
        assert one.problem == (
            f"no effect: {why}, so the image tower runs once, on pictures as they are"
        )
        assert one.value == "scale 0.9, brightness 0.1, contrast 0.1, flip 0"
