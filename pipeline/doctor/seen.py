"""What was seen, as values: the source's sample, the base model, the device. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.doctor.findings import Finding

Made = dict[Path, list[Path]]
"""What the samples' stages make, and from which files."""


@dataclass(frozen=True)
class Sample:
    """The source, from its first rows.

    Attributes:
        format: which it is, never auto.
        columns: field → column.
        exact: whether `rows` is a count; else it is an estimate.
        whole: whether it was read to its end; else what is not `rows` is projected from its start.
        rows, pairs, images: how many; a row may hold several captions, an image have several.
        splits: the user's own split → its images among those read; empty without one.
        labelled: whether a row has a label.
        captions: those of the sample.
        looked: pictures of the sample that were looked at.
        bad: reason → how many of them.
        side: median of their shorter sides, in pixels; pixels: median of width × height.
        embedded: whether pictures lie inside other files and are packed by `validate`.
        image_bytes: mean size of a picture's file.
    """

    format: str
    columns: Mapping[str, str]
    exact: bool
    whole: bool
    rows: float
    pairs: float
    images: float
    splits: Mapping[str, int]
    labelled: bool
    captions: Sequence[str]
    looked: int
    bad: Mapping[str, int]
    side: float
    pixels: float
    embedded: bool
    image_bytes: float


@dataclass(frozen=True)
class Shape:
    """What follows from the architecture.

    Attributes:
        parameters: how many.
        width: of an embedding.
        image_size: sides of the input, in pixels.
        context: tokens that the text tower reads.
        batch_norm: whether it has batch norm.
        trained: parameters that train, by `finetune.method`; low-rank updates count.
        saved: bytes kept for the backward pass, fp32, a pair.
        fixed: bytes kept for it whatever the batch: weights with their low-rank updates.
        largest: bytes of the largest of those tensors, a pair.
    """

    parameters: int
    width: int
    image_size: tuple[int, int]
    context: int
    batch_norm: bool
    trained: int
    saved: float
    fixed: float
    largest: float


@dataclass(frozen=True)
class Base:
    """The base model that params name.

    Attributes:
        origin: where it comes from, for people.
        known: whether OpenCLIP knows the architecture by name.
        shape: None where the model can't be built here.
        findings: what stands in its way.
    """

    origin: str
    known: bool
    shape: Shape | None
    findings: list[Finding]


@dataclass(frozen=True)
class Device:
    """What computes: `memory` and `free` in bytes; both None on a CPU, which has the host's.

    `bf16`: whether it computes in bf16, which `finetune.precision: auto` takes on a GPU alone.
    """

    kind: str
    name: str
    memory: int | None
    free: int | None
    bf16: bool
