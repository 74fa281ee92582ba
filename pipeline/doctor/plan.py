"""What training will come to: pictures a split, steps, and settings that contradict each other."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.data.pairs import SPLITS
from pipeline.data.splits import lacking_parts
from pipeline.doctor.findings import Fact, Finding, Look, about, percent
from pipeline.doctor.seen import Base, Sample
from pipeline.doctor.settings import Settings
from pipeline.params import CleanParams, FinetuneParams

FEW_TEST = 20
"""Test pictures below which an interval says nothing: one picture is 5 points."""

HIGH_RATE = 1e-4


class Plan(NamedTuple):
    """Expected pictures by split; steps of an epoch, of all, and of the warm-up."""

    images: dict[str, float]
    per_epoch: int
    steps: int
    rising: int


def expected(sample: Sample, clean: CleanParams) -> dict[str, float]:
    """Pictures by split, near-duplicates and drops by caption aside.

    A split of the user's own counts as far as it was read; what `cut_from_train` names comes off
    its train.
    """
    passed = 1 - sum(sample.bad.values()) / sample.looked if sample.looked else 1.0
    passed = passed or 1.0  # a wrong folder: the plan is for when it is mended
    images = sample.images * passed
    shares: dict[str, float] = {name: getattr(clean.split, name) for name in SPLITS}
    seen = sum(sample.splits.values())
    if seen and sample.whole:
        own: dict[str, float] = {n: sample.splits.get(n, 0) / seen for n in SPLITS}
        cut: dict[str, float] = {name: own["train"] * shares[name] for name in clean.cut_from_train}
        shares = {name: own[name] + cut.get(name, 0) for name in SPLITS}
        shares["train"] -= sum(cut.values())
    return {name: images * share for name, share in shares.items()}


def steps_of(images: dict[str, float], params: FinetuneParams) -> Plan:
    """The steps that follow, as `pipeline.training` counts them."""
    per_epoch = int(images["train"] // params.batch_size)
    steps = per_epoch * params.epochs
    return Plan(images, per_epoch, steps, math.ceil(params.warmup * steps))


def look(settings: Settings, sample: Sample | None, base: Base | None) -> Look:
    """The plan, where the source could be looked at, and what will go wrong with it."""
    findings: list[Finding] = []
    facts: list[Fact] = []
    clean, finetune = settings.clean, settings.finetune
    if sample is not None and clean is not None:
        images = expected(sample, clean)
        tell = about if not sample.whole or sample.bad else lambda count: f"about {count:,.0f}"
        text = ", ".join(f"{name} {tell(images[name])}" for name in SPLITS)
        facts.append(Fact("plan", "images", text, {n: round(c) for n, c in images.items()}))
        lacking = _lacking(sample, clean)
        findings += [_uncut(lacking, clean)] if lacking else []
        left = {name: count for name, count in images.items() if name not in lacking}
        findings += _splits(left, clean, own=bool(sample.splits))
        if finetune is not None:
            plan = steps_of(images, finetune)
            findings += _steps(plan, finetune)
            facts += _facts(plan, finetune) if plan.steps else ()
    if finetune is not None and base is not None:
        findings += _rate(finetune, base)
    return Look(findings, facts)


def _facts(plan: Plan, params: FinetuneParams) -> Iterator[Fact]:
    text = f"{about(plan.steps)}: {params.epochs} epochs of {plan.per_epoch:,}"
    yield Fact("plan", "steps", text, {"all": plan.steps, "epoch": plan.per_epoch})
    text = f"{plan.rising:,} steps up to a learning rate of {params.lr:g}"
    yield Fact("plan", "warm-up", text, plan.rising)


def _lacking(sample: Sample, clean: CleanParams) -> list[str]:
    """Parts for want of which `clean` stops."""
    if not (sample.splits and sample.whole):
        return []
    return lacking_parts(sample.splits, shares=clean.split, cut=clean.cut_from_train)


def _uncut(lacking: list[str], clean: CleanParams) -> Finding:
    cut = ", ".join([*clean.cut_from_train, *lacking])
    problem = (
        f"your own split has no {' and no '.join(lacking)}: clean stops without a word on that"
    )
    remedy = f"set it to [{cut}], which cuts their shares from your train"
    return Finding("stops", "clean.cut_from_train", clean.cut_from_train, problem, remedy)


def _splits(images: dict[str, float], clean: CleanParams, *, own: bool) -> Iterator[Finding]:
    for name, makes in (("val", "finetune"), ("test", "evaluate")):
        if name not in images:
            continue
        count = images[name]
        key, value = f"clean.split.{name}", getattr(clean.split, name)
        remedy = f"raise {key}, or add data" if not own else f"mark more rows as {name}"
        if count < 0.5:
            problem = f"no picture is expected in {name}: {makes} stops without one"
            yield Finding("stops", key, value, problem, remedy)
        elif count < FEW_TEST and name == "test":
            problem = f"about {count:.0f} test pictures: each counts {100 / count:.0f} points"
            yield Finding("hurts", key, value, problem, remedy)
        elif count < FEW_TEST / 2:
            problem = f"about {count:.0f} pictures choose the best epoch: chance does"
            yield Finding("hurts", key, value, problem, remedy)


def _steps(plan: Plan, params: FinetuneParams) -> Iterator[Finding]:
    train, size = plan.images["train"], params.batch_size
    if not plan.per_epoch:
        problem = f"about {train:.0f} training pictures are expected: no batch is full, so no step"
        remedy = f"set it to {max(int(train) // 2, 2)}, or add data"
        yield Finding("stops", "finetune.batch_size", size, problem, remedy)
        return
    if train - plan.per_epoch * size > train / 4:
        problem = (
            f"an epoch leaves out {percent(1 - plan.per_epoch * size / train)} of the pictures"
        )
        remedy = "a smaller batch leaves out less; another epoch leaves out others"
        yield Finding("note", "finetune.batch_size", size, problem, remedy)
    if size < 32:
        problem = f"each caption is told from {size - 1} other pictures alone: little to learn from"
        remedy = "raise it as far as memory allows"
        yield Finding("hurts", "finetune.batch_size", size, problem, remedy)
    if plan.rising == 0:
        problem = "the first step takes the whole learning rate"
        yield Finding("note", "finetune.warmup", params.warmup, problem, "0.1 is a usual share")
    elif plan.rising == plan.steps:
        problem = f"all {plan.steps} steps are warm-up: the learning rate never falls"
        yield Finding("hurts", "finetune.warmup", params.warmup, problem, "lower it")
    if plan.steps < 20:
        problem = f"{plan.steps} steps in all: little will change"
        remedy = "raise finetune.epochs, or lower finetune.batch_size"
        yield Finding("hurts", "finetune.epochs", params.epochs, problem, remedy)


def _rate(params: FinetuneParams, base: Base) -> Iterator[Finding]:
    if base.known and params.lr > HIGH_RATE:
        problem = "too fast for a pretrained model: it forgets first and learns then"
        yield Finding("hurts", "finetune.lr", params.lr, problem, "start near 1.0e-5")
