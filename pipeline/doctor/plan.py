"""What training will come to: pictures a split, steps, and settings that contradict each other."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.data.pairs import SPLITS, caption_key
from pipeline.data.splits import lacking_parts
from pipeline.doctor import expecting
from pipeline.doctor.expecting import expected
from pipeline.doctor.findings import Fact, Finding, Level, Look, about, percent
from pipeline.doctor.seen import Base, Sample
from pipeline.doctor.settings import Settings
from pipeline.params import CleanParams, FinetuneParams
from pipeline.training import auto, preflight
from pipeline.training.auto import Settled

FEW_TEST = 20
"""Test pictures below which an interval says nothing: one picture is 5 points."""


class Plan(NamedTuple):
    """Expected pictures by split; steps of an epoch, of all, and of the warm-up."""

    images: dict[str, float]
    per_epoch: int
    steps: int
    rising: int


def steps_of(images: dict[str, float], params: Settled) -> Plan:
    """The steps that follow, as `pipeline.training` counts them."""
    return Plan(images, *preflight.steps(params, images["train"]))


def look(
    settings: Settings,
    sample: Sample | None,
    base: Base | None,
    tokens: Sequence[int] | None = None,
) -> Look:
    """The plan, where the source could be looked at, and what will go wrong with it.

    `tokens` of each caption looked at.
    """
    findings: list[Finding] = []
    facts: list[Fact] = []
    clean, params = settings.clean, expecting.settled(settings, sample, base)
    if sample is not None and clean is not None:
        images = expected(sample, clean)
        tell = about if not sample.whole or sample.bad else lambda count: f"about {count:,.0f}"
        text = ", ".join(f"{name} {tell(images[name])}" for name in SPLITS)
        facts.append(Fact("plan", "images", text, {n: round(c) for n, c in images.items()}))
        lacking = _lacking(sample, clean)
        findings += [_uncut(lacking, clean)] if lacking else []
        left = {name: count for name, count in images.items() if name not in lacking}
        findings += _splits(left, clean, own=bool(sample.splits))
        if settings.finetune is not None and params is not None:
            plan = steps_of(images, params)
            findings += _doubts(params, _outlook(plan, sample, base, tokens))
            findings += _steps(plan, params)
            facts += _facts(plan, settings.finetune, params) if plan.steps else ()
    elif params is not None and base is not None:
        findings += [_finding(d) for d in preflight.of_rate(params, expecting.parameters(base))]
    return Look(findings, facts)


def _outlook(
    plan: Plan, sample: Sample, base: Base | None, tokens: Sequence[int] | None
) -> preflight.Outlook:
    """What training can be expected to find; twins by the captions looked at, in a known source."""
    train, shape = plan.images["train"], None if base is None else base.shape
    cut = None
    if tokens and shape is not None:
        cut = sum(count > shape.context for count in tokens) / len(tokens)
    return preflight.Outlook(
        train,
        f"about {train:.0f} training pictures are expected",
        expecting.parameters(base),
        twins=_twins(sample.captions) if sample.whole else None,
        truncated=cut,
    )


def _twins(captions: Sequence[str]) -> float | None:
    """Share of the pairs of two captions that are one and the same."""
    if len(captions) < 2:
        return None
    counts = Counter(caption_key(caption) for caption in captions).values()
    return sum(n * (n - 1) for n in counts) / (len(captions) * (len(captions) - 1))


def _doubts(params: Settled, outlook: preflight.Outlook) -> Iterator[Finding]:
    """What training will say at its start. A share that was estimated must be well over a limit."""
    sure = {
        "finetune.max_twins": outlook.twins,
        "finetune.max_truncated": outlook.truncated,
    }
    for doubt in preflight.doubts(params, outlook):
        share = sure.get(doubt.key)
        near = share is not None and share < (1 + doubt.value) / 2 if doubt.stops else False
        yield _finding(doubt._replace(stops=doubt.stops and not near))


def _finding(doubt: preflight.Doubt) -> Finding:
    level: Level = "stops" if doubt.stops else "hurts"
    return Finding(level, doubt.key, doubt.value, doubt.problem, doubt.remedy)


def _facts(plan: Plan, asked: FinetuneParams, params: Settled) -> Iterator[Fact]:
    text = f"{about(plan.steps)}: {params.epochs} epochs of {plan.per_epoch:,}"
    yield Fact("plan", "steps", text, {"all": plan.steps, "epoch": plan.per_epoch})
    text = f"{plan.rising:,} steps up to a learning rate of {params.lr:g}"
    yield Fact("plan", "warm-up", text, plan.rising)
    if chosen := auto.chosen(asked, params):
        yield Fact("plan", "auto will be", auto.shown(chosen), chosen)


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


def _steps(plan: Plan, params: Settled) -> Iterator[Finding]:
    """What is worth knowing of steps that can be taken."""
    train, size = plan.images["train"], params.batch_size
    if not plan.steps:
        return
    if train - plan.per_epoch * size > train / 4:
        problem = (
            f"an epoch leaves out {percent(1 - plan.per_epoch * size / train)} of the pictures"
        )
        remedy = "a smaller batch leaves out less; another epoch leaves out others"
        yield Finding("note", "finetune.batch_size", size, problem, remedy)
    if plan.rising == 0:
        problem = "the first step takes the whole learning rate"
        yield Finding("note", "finetune.warmup", params.warmup, problem, "0.1 is a usual share")
