"""The sections of params.yaml about data, as types: where they come from, their limits, cleaning,
and how training varies them.

Every default stands in params.yaml and none here.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A frozen mapping of known keys; ints are not strings and strings are not numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SlicesParams(Section):
    """The parts into which the test pictures are cut."""

    columns: list[str]
    least: Positive


class Columns(Section):
    """Which column holds what: a name, `auto` (guessed, and the guess is told) or null (none)."""

    image: str
    caption: str
    label: str | None
    group: str | None
    split: str | None


Format = Literal[
    "auto", "table", "coco", "class_folders", "sidecar", "shards", "parquet_images", "save_to_disk"
]


class DataParams(Section):
    """Where the pairs come from."""

    source: str
    format: Format
    captions: str
    image_root: str
    caption_template: str
    columns: Columns

    @model_validator(mode="after")
    def _template_has_a_place(self) -> Self:
        if self.caption_template.count("{}") != 1:
            raise ValueError(
                f"caption_template {self.caption_template!r} needs exactly one {{}} for the class"
            )
        return self


class Threshold(Section):
    """A figure above `warn` is told; above `stop` it ends the pipeline. null: never."""

    warn: Annotated[float, Field(ge=0)] | None
    stop: Annotated[float, Field(ge=0)] | None

    @model_validator(mode="after")
    def _warn_first(self) -> Self:
        if self.warn is not None and self.stop is not None and self.warn > self.stop:
            raise ValueError(f"warn {self.warn:g} is above stop {self.stop:g}: it could never warn")
        return self


class ShortCaptions(Threshold):
    """Captions of fewer words than `below_words`, as a share."""

    below_words: Positive


class LongCaptions(Threshold):
    """Captions of more words than `above_words`, as a share."""

    above_words: Positive


class TableParams(Section):
    """Limits of the table as a whole."""

    rejected: Threshold
    rejected_for: dict[str, Threshold]
    short_captions: ShortCaptions
    long_captions: LongCaptions
    truncated: Threshold
    repeated: Threshold
    caption_elsewhere: Threshold
    most_frequent_caption: Threshold
    unlabelled: Threshold
    labels_not_in_split: Threshold

    @model_validator(mode="after")
    def _short_below_long(self) -> Self:
        below, above = self.short_captions.below_words, self.long_captions.above_words
        if below > above:
            raise ValueError(
                f"short_captions.below_words {below} is above long_captions.above_words {above}: "
                "a caption would be short and long at once, or every one of them either"
            )
        return self


class DriftParams(Section):
    """Limits of the distance to the data that were last accepted."""

    rows: Threshold
    caption_words: Threshold
    vocabulary: Threshold
    labels: Threshold
    image_side: Threshold
    brightness: Threshold


class ValidateParams(Section):
    """Limits of a row, of the table as a whole, and of its drift."""

    max_bytes: Positive
    max_pixels: Positive
    min_side: Positive
    max_aspect: Annotated[float, Field(ge=1)]
    max_caption_chars: Positive
    table: TableParams
    drift: DriftParams


class SplitShares(Section):
    """Shares of images; they add up to 1."""

    train: Share
    val: Share
    test: Share

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + val + test = {total:g}: make them add up to 1")
        return self


class NearImages(Section):
    """What counts as the same picture: re-encoded, rescaled, slightly cropped or brightened."""

    find: bool
    min_similarity: Share


class NearCaptions(Section):
    """What counts as nearly the same caption: the Jaccard similarity of its word shingles."""

    find: bool
    min_similarity: Annotated[float, Field(ge=0.5, le=1)]
    same_image: Literal["keep", "set_aside"]


class CleanParams(Section):
    """Caption rules, in the order in which they are applied, and the split."""

    fix_unicode: bool
    strip_html: bool
    strip_urls: bool
    strip_phones: bool
    strip_handles: bool
    strip_boilerplate: list[str]
    strip_frequent: Annotated[float, Field(gt=0, le=1)] | None
    casing: Literal["keep", "lower", "unshout"]
    collapse_space: bool
    min_words: Annotated[int, Field(ge=0)]
    max_words: Positive
    drop_file_names: bool
    max_repetition: Annotated[float, Field(gt=0, le=1)] | None
    languages: list[str]
    near_images: NearImages
    near_captions: NearCaptions
    leaks: Literal["set_aside", "stop"]
    split: SplitShares
    cut_from_train: list[Literal["val", "test"]]
    labels_missing: Threshold

    @model_validator(mode="after")
    def _min_below_max(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(
                f"min_words {self.min_words} is above max_words {self.max_words}: no caption passes"
            )
        return self


Words = Annotated[str, Field(min_length=1)]


class CardParams(Section):
    """What the model card says that no stage can find out; null: not stated."""

    license: Words | None
    data_license: Words | None
    authors: Words | None
    intended_use: Words | None


class AugmentParams(Section):
    """How much a training picture is varied: at scale 1 and 0 elsewhere, not at all."""

    scale: Annotated[float, Field(ge=0.25, le=1)]
    brightness: Annotated[float, Field(ge=0, lt=1)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    flip: Share


class ProbeParams(Section):
    """The classifiers of embeddings: neighbours that vote, strengths of the linear one's penalty,
    and training images at most.
    """

    k: Positive
    l2: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    max_train: Positive


class MismatchParams(Section):
    """Which training pairs are dropped because the base model finds that they don't belong."""

    drop_below: float | None
    drop_share: Annotated[float, Field(ge=0, lt=1)]
