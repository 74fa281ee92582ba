"""The last look before a training: what `auto` becomes, and whether it can work."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.clip import device as devices
from pipeline.clip.model import Clip
from pipeline.clip.tokens import TokenCounter
from pipeline.errors import ModelError
from pipeline.params import FinetuneParams
from pipeline.training import auto, compiling, preflight
from pipeline.training.auto import Settled
from pipeline.training.batches import codes
from pipeline.training.learner import coded

COUNTED = 20_000
"""Captions whose tokens are counted, a second of work: a share is known to a third of a point."""


def ready(
    clip: Clip, train: pd.DataFrame, asked: FinetuneParams, *, tell: Callable[[str], object]
) -> Settled:
    """What to train with; `tell` gets a line for what was chosen and one for each doubt.

    Nothing of the model is moved or changed. Raises TrainingError where this can't work, and
    ConfigError where torch can't compile and should.
    """
    parameters = sum(weight.numel() for weight in clip.model.parameters())
    images = int(train["image_id"].nunique())
    if asked.compile:
        compiling.need(devices.choose())
    settled = auto.settled(asked, images=images, parameters=parameters)
    if chosen := auto.chosen(asked, settled):
        tell(f"chosen for {images:,} pictures, method {asked.method}: {auto.shown(chosen)}")
    outlook = preflight.Outlook(
        images,
        f"the training split has {images:,} pictures",
        parameters,
        twins=twins(train, same_label=asked.same_label),
        truncated=truncated(clip, train),
    )
    preflight.check(settled, outlook, tell=tell)
    return settled


def twins(train: pd.DataFrame, *, same_label: str) -> float:
    """`preflight.twin_share` by the very codes that the loss goes by."""
    known = coded(train).codes
    kinds = [known.image.numpy(), known.caption.numpy()]
    if same_label != "negative" and known.label is not None:
        kinds.append(known.label.numpy())
    return preflight.twin_share(codes(train["image_id"]), kinds)


def truncated(clip: Clip, train: pd.DataFrame) -> float | None:
    """Share of the captions that the model cuts; None for a tokenizer of an unknown kind."""
    try:
        counter = TokenCounter(clip.tokenizer)
    except ModelError:
        return None
    places = np.linspace(0, len(train) - 1, min(len(train), COUNTED)).round().astype(int)
    counts = counter.count(list(train["caption"].iloc[places]))
    return float((counts > counter.limit).mean()) if len(counts) else 0.0
