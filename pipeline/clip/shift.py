"""Whether the present pictures look like those last accepted, to the base model.

A classifier is asked to tell the two sets apart by their embeddings; how well it does on pictures
that it was not fitted to (the area under its ROC curve, AUC) says how far the data moved: 0.5 is
chance, 1.0 two worlds (Rabanser et al. 2019, "Failing Loudly").

Shapes: S pictures of a sample, D width of an embedding, P of what is kept of it.
"""

import base64
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.artifacts import read_json, write_json
from pipeline.clip.cache import Matrix
from pipeline.clip.products import covariance, products, solve
from pipeline.clip.store import Embeddings
from pipeline.errors import DataError
from pipeline.params import EmbeddingDriftParams

SAMPLE = 512
WIDTH = 64
"""Embeddings are projected to this width at random, which keeps distances (Johnson and
Lindenstrauss 1984): a profile is to be kept in git."""

FOLDS = 5
LEAST = 50
"""Pictures of a sample below which nothing is said."""

NORMAL_95 = 1.959964
_KEPT = 2


class Profile(BaseModel):
    """What is kept of a data set's embeddings.

    Attributes:
        made: hash of what decides a vector but for last digits; only those made alike are compared.
        sample: S×P fp16, base64.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    made: str
    images: int
    width: int
    sample: str


class Shift(NamedTuple):
    """The AUC with its 95 % interval; null where there is nothing to compare with, and why."""

    auc: float | None
    low: float | None
    high: float | None
    why: str | None


def profile(images: Embeddings, made: str) -> Profile:
    """The profile of the present embeddings: the same for the same content."""
    step = max(len(images) // SAMPLE, 1)
    sample = images.rows(np.arange(0, len(images), step)[:SAMPLE])
    width = min(WIDTH, images.width)
    kept = np.ascontiguousarray(_projected(sample, width).astype("<f2"))
    text = base64.b64encode(kept.tobytes()).decode("ascii")
    return Profile(made=made, images=len(images), width=width, sample=text)


def compare(present: Profile, accepted_file: Path) -> Shift:
    """Tell the present profile from the newest accepted one that is not its own.

    Raises DataError when the file is not a list of profiles.
    """
    others = [known for known in read_accepted(accepted_file) if known != present]
    if not others:
        return Shift(None, None, None, "no other data were accepted before")
    return tell(present, others[-1])


def tell(present: Profile, reference: Profile) -> Shift:
    """Tell the pictures of one profile from those of another; DataError for a damaged one."""
    if reference.made != present.made:
        return Shift(None, None, None, "the accepted data were embedded in another way")
    ours, theirs = _sample_of(present), _sample_of(reference)
    if min(len(ours), len(theirs)) < LEAST:
        return Shift(None, None, None, f"fewer than {LEAST} pictures tell nothing")
    auc = separation(ours, theirs)
    error = _standard_error(auc, len(ours), len(theirs))
    low, high = max(auc - NORMAL_95 * error, 0.0), min(auc + NORMAL_95 * error, 1.0)
    return Shift(auc, low, high, None)


def judge(found: Shift, limits: EmbeddingDriftParams) -> str | None:
    """A warning where even the interval's lower end is above `warn`; DataError above `stop`."""
    if found.low is None:
        return None
    told = (
        f"embedding drift: a classifier tells these pictures from the accepted ones with AUC "
        f"{found.auc:.2f} [{found.low:.2f}, {found.high:.2f}]"
    )
    if limits.stop is not None and found.low > limits.stop:
        raise DataError(
            f"{told}, above embed.drift.stop: {limits.stop}; look at the data, or raise it"
        )
    if limits.warn is not None and found.low > limits.warn:
        return f"{told}, above embed.drift.warn: {limits.warn}"
    return None


def separation(ours: Matrix, theirs: Matrix) -> float:
    """AUC of a shrunken linear discriminant on held-out folds: S×P and S×P → 0…1.

    Folds go by position, so the figure is the same on every run.
    """
    values = np.concatenate([ours, theirs]).astype(np.float64)
    present = np.concatenate([np.ones(len(ours)), np.zeros(len(theirs))]).astype(bool)
    fold = np.concatenate([np.arange(len(ours)), np.arange(len(theirs))]) % FOLDS
    areas = []
    for number in range(FOLDS):
        held = fold == number
        direction = _discriminant(values[~held], present[~held])
        scores = products(values[held], direction[None, :])[:, 0]
        areas.append(_area(scores, present[held]))
    return float(np.mean(areas))


def accept(profile_file: Path, accepted_file: Path) -> None:
    """Add the present profile to the accepted ones, of which the last two stay."""
    present = Profile.model_validate(read_json(profile_file))
    accepted = read_accepted(accepted_file)
    if not accepted or accepted[-1] != present:
        kept = [known.model_dump() for known in [*accepted, present][-_KEPT:]]
        write_json(accepted_file, kept)


def read_accepted(accepted_file: Path) -> list[Profile]:
    """The profiles in `accepted_file`, the newest last; none where there is no file."""
    try:
        return TypeAdapter(list[Profile]).validate_json(accepted_file.read_bytes())
    except FileNotFoundError:
        return []
    except ValidationError as error:
        raise DataError(
            f"{accepted_file} is not a list of profiles ({error.errors()[0]['msg']}): take it back "
            "from git, or write [] into it and run `cliptune accept`"
        ) from None


def _projected(vectors: Matrix, width: int) -> Matrix:
    """S×D → S×P by a fixed Gaussian matrix; as they are where D is not above P."""
    if vectors.shape[1] <= width:
        return vectors
    matrix = np.random.default_rng(0).normal(size=(vectors.shape[1], width)) / math.sqrt(width)
    projected: Matrix = products(vectors, matrix.astype(np.float32).T)
    return projected


def _sample_of(kept: Profile) -> Matrix:
    try:
        values = np.frombuffer(base64.b64decode(kept.sample, validate=True), dtype="<f2")
        sample: Matrix = values.reshape(-1, kept.width).astype(np.float32)
    except ValueError as error:
        raise DataError(
            f"the sample of an accepted embedding profile is damaged: {error}"
        ) from None
    return sample


def _discriminant(values: np.ndarray[Any, Any], present: np.ndarray[Any, Any]) -> Any:
    """Fisher's direction, the covariance shrunk by a tenth towards a multiple of the identity."""
    ours, theirs = values[present], values[~present]
    within = (covariance(ours) + covariance(theirs)) / 2
    width = len(within)
    shrunk = 0.9 * within + (0.1 * np.trace(within) / width + 1e-12) * np.eye(width)
    return solve(shrunk, ours.mean(axis=0) - theirs.mean(axis=0))


def _area(scores: np.ndarray[Any, Any], present: np.ndarray[Any, Any]) -> float:
    """The share of pairs (ours, theirs) in which ours scores higher; ties count half."""
    ours, theirs = scores[present], np.sort(scores[~present])
    below = np.searchsorted(theirs, ours, side="left")
    upto = np.searchsorted(theirs, ours, side="right")
    return float((below + upto).mean() / (2 * len(theirs)))


def _standard_error(auc: float, ours: int, theirs: int) -> float:
    """Of an AUC, by Hanley and McNeil (1982), equation 1."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (ours - 1) * (one - auc**2) + (theirs - 1) * (two - auc**2)
    return math.sqrt(max(spread, 0.0) / (ours * theirs))
