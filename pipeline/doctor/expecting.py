"""What training will begin with: pictures by split, and what stands in place of `auto`."""

from pipeline.data.pairs import SPLITS
from pipeline.doctor.seen import Base, Sample
from pipeline.doctor.settings import Settings
from pipeline.params import CleanParams, FinetuneParams
from pipeline.training import auto
from pipeline.training.auto import Settled


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


def settled(settings: Settings, sample: Sample | None, base: Base | None) -> Settled | None:
    """The fine-tune as it will likely be; None where a choice can't be foreseen.

    Near a bound of a rule, the pictures that are really left may lead to another choice. A model
    that can't be built here is taken for a large one.
    """
    asked = settings.finetune
    if asked is None or (choices(asked) and (sample is None or settings.clean is None)):
        return None
    images = 0
    if sample is not None and settings.clean is not None:
        images = int(expected(sample, settings.clean)["train"])
    return auto.settled(asked, images=images, parameters=parameters(base) or auto.LARGE)


def choices(asked: FinetuneParams) -> list[str]:
    """The keys of `finetune` that are `auto` and depend on the data."""
    return [key for key in auto.CHOICES if getattr(asked, key) == "auto"]


def parameters(base: Base | None) -> int | None:
    """Of the model, where it can be built here."""
    return None if base is None or base.shape is None else base.shape.parameters
