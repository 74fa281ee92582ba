"""Keys of params.yaml without effect, given the others, the source, the model and the device."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.doctor.findings import Fact, Finding, Look
from pipeline.doctor.seen import Base, Device, Sample
from pipeline.doctor.settings import Settings
from pipeline.params import CleanParams, DataParams, EvaluateParams, FinetuneParams
from pipeline.training.resting import resting

NEUTRAL = ("auto", ".", None, False)
"""Values that ask for nothing: that they have no effect surprises nobody."""

FEW_CAPTIONS = 20

NAMED = {"table", "coco", "sidecar", "class_folders"}
"""Formats whose pictures are files of their own."""

TABLES = {"table", "shards", "parquet_images", "save_to_disk"}
"""Formats with columns or fields to choose."""


class Idle(NamedTuple):
    """A key, its value, and why nothing comes of it; `meant`: its value shows that it was set."""

    key: str
    value: Any
    why: str
    meant: bool = True


def look(
    settings: Settings, sample: Sample | None, base: Base | None, device: Device | None
) -> Look:
    """Keys that were set for nothing as notes; the rest as facts."""
    idle = [*_idle(settings, sample, base, device)]
    idle = [one for one in idle if one.value not in NEUTRAL]
    remedy = "leave it, or change what makes it idle"
    findings = [
        Finding("note", one.key, one.value, f"no effect: {one.why}", remedy)
        for one in idle
        if one.meant
    ]
    return Look(findings, [Fact("no effect", one.key, one.why) for one in idle if not one.meant])


def _idle(
    settings: Settings, sample: Sample | None, base: Base | None, device: Device | None
) -> Iterator[Idle]:
    if settings.data is not None and sample is not None:
        yield from _data(settings.data, sample)
    if settings.clean is not None:
        yield from _clean(settings.clean, sample)
    if settings.finetune is not None:
        yield from _finetune(settings.finetune, sample, base, device)
    if settings.evaluate is not None and sample is not None:
        yield from _evaluate(settings.evaluate, sample)
    if settings.limits is not None and sample is not None and not sample.labelled:
        table = settings.limits.table
        for name in ("unlabelled", "labels_not_in_split"):
            threshold = getattr(table, name)
            told = f"warn {threshold.warn}, stop {threshold.stop}"
            yield Idle(f"validate.table.{name}", told, "no row has a label", meant=False)
        if settings.clean is not None:
            limit = settings.clean.labels_missing
            told = f"warn {limit.warn}, stop {limit.stop}"
            yield Idle("clean.labels_missing", told, "no row has a label", meant=False)


def _data(data: DataParams, sample: Sample) -> Iterator[Idle]:
    form = sample.format
    if form not in NAMED:
        yield Idle("data.image_root", data.image_root, f"pictures lie inside the files of {form}")
    if form not in {"table", "coco", "parquet_images"}:
        yield Idle("data.captions", data.captions, f"{form} has no captions file")
    if form != "class_folders":
        why = f"the format is {form}, with captions of its own"
        yield Idle("data.caption_template", data.caption_template, why, meant=False)
    if form not in TABLES:
        for name in ("image", "caption", "label", "split"):
            yield Idle(
                f"data.columns.{name}", getattr(data.columns, name), f"{form} has no columns"
            )


def _clean(clean: CleanParams, sample: Sample | None) -> Iterator[Idle]:
    if not clean.near_images.find:
        value, why = clean.near_images.min_similarity, "near_images.find is false"
        yield Idle("clean.near_images.min_similarity", value, why, meant=False)
    near = clean.near_captions
    if not near.find:
        why = "near_captions.find is false"
        yield Idle("clean.near_captions.min_similarity", near.min_similarity, why, meant=False)
        if near.same_image == "set_aside":
            yield Idle("clean.near_captions.same_image", near.same_image, why)
    if sample is None:
        return
    if sample.pairs < FEW_CAPTIONS:
        why = f"{sample.pairs:.0f} captions are too few to find phrases by frequency"
        yield Idle("clean.strip_frequent", clean.strip_frequent, why)
    cut = clean.cut_from_train
    if sample.whole and cut and not sample.splits:
        yield Idle("clean.cut_from_train", ", ".join(cut), "your data have no split of their own")
    if sample.whole and {"train", "val", "test"} <= sample.splits.keys() and not cut:
        why = "your own split has all three parts"
        shares = clean.split
        yield Idle("clean.split", f"{shares.train}/{shares.val}/{shares.test}", why, meant=False)


def _finetune(
    params: FinetuneParams, sample: Sample | None, base: Base | None, device: Device | None
) -> Iterator[Idle]:
    yield from _of_method(params)
    if base is not None and base.shape is not None and not base.shape.batch_norm:
        why = "the model has no batch norm"
        yield Idle("finetune.freeze_batch_norm", params.freeze_batch_norm, why, meant=False)
    if device is not None and device.kind == "cpu":
        why = "a CPU is deterministic as it is"
        yield Idle("finetune.deterministic", params.deterministic, why, meant=False)
    if sample is not None and not sample.labelled and params.same_label != "negative":
        yield Idle("finetune.same_label", params.same_label, "no row has a label")
    size, rounds = params.batch_size, params.epochs
    if size != "auto" and params.micro_batch is not None and params.micro_batch >= size:
        why = f"a batch has {size} rows: they go through the model at once"
        yield Idle("finetune.micro_batch", params.micro_batch, why)
    if rounds != "auto" and params.patience is not None and params.patience >= rounds:
        yield Idle("finetune.patience", params.patience, f"training ends after {rounds} epochs")


def _of_method(params: FinetuneParams) -> Iterator[Idle]:
    """Sections of another method, and what does nothing to a tower that does not train."""
    why, lock, lora = f"the method is {params.method}", params.lock, params.lora
    if params.augment is not None and "image" in resting(params):
        value = ", ".join(f"{key} {value:g}" for key, value in params.augment)
        still = why if params.method == "head" else "finetune.lock.image is all"
        looked_up = f"{still}, so the image tower runs once, on pictures as they are"
        yield Idle("finetune.augment", value, looked_up)
    if params.checkpoint_activations and params.method == "head":
        yield Idle("finetune.checkpoint_activations", True, f"{why}: no tower runs in training")
    if params.method != "lora":
        yield Idle("finetune.lora", f"rank {lora.rank}", why, meant=False)
    if params.method != "lit":
        yield Idle("finetune.lock", f"image {lock.image}, text {lock.text}", why, meant=False)
        return
    for tower in ("image", "text"):
        rate = getattr(params.tower_lr, tower)
        if getattr(lock, tower) == "all" and rate != 1:
            yield Idle(f"finetune.tower_lr.{tower}", rate, f"finetune.lock.{tower} is all")


def _evaluate(params: EvaluateParams, sample: Sample) -> Iterator[Idle]:
    if not sample.labelled:
        why = "no row has a label: zero-shot accuracy is not measured on your data"
        asked = params.templates
        said = asked if isinstance(asked, str) else f"{len(asked)} of them"
        yield Idle("evaluate.templates", said, why, meant=False)
