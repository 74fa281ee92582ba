"""What we expect of the data: two Great Expectations suites.

`row_suite` is about single rows, malformed ones among them. An expectation that names a reason
rejects the rows that fail it, with the reason of the first that they fail; one without a reason is
a promise of our readers, and breaking it is a defect.

`table_suite` is about the table as a whole: one row, a column for each figure. An expectation of
severity `warning` is told when it fails, one of severity `critical` ends the pipeline. Limits are
those of params.yaml; a figure without any is measured and told all the same.
"""

from collections.abc import Collection
from typing import Any

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation

from pipeline.data.pairs import SPLITS
from pipeline.params import Threshold, ValidateParams
from pipeline.validation.docs import MEANINGS
from pipeline.validation.reasons import limited_reasons

BY_COLUMN = "image_problem"
"""The column whose values are themselves reasons."""

UNLIMITED = Threshold(warn=None, stop=None)
"""Measured and told, whatever it is."""

ROW_COLUMNS = (
    "pair", "source_row", "malformed", "image", "image_problem", "caption", "split",
)  # fmt: skip
"""What the row suite looks at."""


def row_suite(limits: ValidateParams, *, split: bool) -> ExpectationSuite:
    """What each row must be; `split` says whether the source gives one, so that all rows must."""
    listed = [*_readers(), *_images(), *_captions(limits)]
    return _suite("rows", [*listed, *_split()] if split else listed)


def table_suite(limits: ValidateParams, *, occurred: Collection[str] = ()) -> ExpectationSuite:
    """What the figures of the table must be.

    The share of rejected rows has a figure for each reason in `limited_reasons`.
    """
    accepted = gxe.ExpectColumnValuesToBeBetween(
        column="accepted",
        min_value=1,
        severity="critical",
        meta=_meta("accepted", "pairs that are left"),
    )
    figures = [_limited(*each) for each in _thresholds(limits, occurred)]
    return _suite("table", [accepted, *(expectation for some in figures for expectation in some)])


def limit_key(name: str) -> str:
    """Where in params.yaml the limits of a figure stand."""
    return f"validate.{name}" if name.startswith("drift.") else f"validate.table.{name}"


def _readers() -> list[Expectation]:
    """Schema and types, and the numbers that our readers give.

    These numbers are ours, so they can be wrong through a defect alone: GX asks in each batch that
    they are unique, and validate, from batch to batch, that they go on one by one. What can repeat
    in a source, a row's image and caption, is the figure `repeated` of the table.
    """
    return [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=list(ROW_COLUMNS), meta=_meta("columns", "the columns that are checked")
        ),
        gxe.ExpectColumnValuesToBeOfType(
            column="pair", type_="int64", meta=_meta("pair_type", "a pair has a whole number")
        ),
        gxe.ExpectColumnValuesToBeOfType(
            column="source_row", type_="int64", meta=_meta("row_type", "so has its row")
        ),
        gxe.ExpectColumnValuesToBeOfType(
            column="caption", type_="str", meta=_meta("caption_type", "a caption is a text")
        ),
        gxe.ExpectColumnValuesToBeUnique(
            column="pair",
            meta=_meta("pair_unique", "no two pairs have the same number (our own count)"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="source_row", min_value=1, meta=_meta("row_number", "rows are counted from 1")
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="malformed", meta=_meta("row_malformed", "the row can be read", reject=True)
        ),
    ]


def _images() -> list[Expectation]:
    return [
        gxe.ExpectColumnValuesToNotBeNull(
            column="image", meta=_meta("image_not_given", "the row names an image", reject=True)
        ),
        gxe.ExpectColumnValuesToBeNull(
            column=BY_COLUMN,
            meta=_meta(
                BY_COLUMN,
                "the image is there, can be decoded and is within the limits",
                reject=True,
            ),
        ),
    ]


def _captions(limits: ValidateParams) -> list[Expectation]:
    return [
        gxe.ExpectColumnValuesToNotBeNull(
            column="caption", meta=_meta("caption_empty", "there is a caption", reject=True)
        ),
        gxe.ExpectColumnValueLengthsToBeBetween(
            column="caption",
            max_value=limits.max_caption_chars,
            meta=_meta("caption_too_many_chars", "the caption is not too long", reject=True),
        ),
    ]


def _split() -> list[Expectation]:
    return [
        gxe.ExpectColumnValuesToNotBeNull(
            column="split",
            meta=_meta("split_not_given", "where rows have a split, each has", reject=True),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="split",
            value_set=list(SPLITS),
            meta=_meta("split_unknown", f"the split is {', '.join(SPLITS)}", reject=True),
        ),
    ]


def _thresholds(
    limits: ValidateParams, occurred: Collection[str]
) -> list[tuple[str, str, Threshold]]:
    """Each figure's name, what it is, and its limits."""
    table = limits.table
    short, long = table.short_captions, table.long_captions
    return [
        ("rejected", "share of pairs rejected", table.rejected),
        *(
            (
                f"rejected_for.{reason}",
                f"share of pairs rejected for {reason}",
                table.rejected_for.get(reason, UNLIMITED),
            )
            for reason in limited_reasons(limits, occurred)
        ),
        (
            "short_captions",
            f"share of captions with fewer than {short.below_words:,} words",
            short,
        ),
        ("long_captions", f"share of captions with more than {long.above_words:,} words", long),
        ("truncated", "share of captions with more tokens than the model reads", table.truncated),
        (
            "repeated",
            "share of pairs whose image and caption an earlier pair has too",
            table.repeated,
        ),
        (
            "caption_elsewhere",
            "share of pairs whose caption another image has too",
            table.caption_elsewhere,
        ),
        (
            "most_frequent_caption",
            "share of the most frequent caption",
            table.most_frequent_caption,
        ),
        ("unlabelled", "share of pairs without a label", table.unlabelled),
        (
            "labels_not_in_split",
            "share of labels that are missing in a part of your own split",
            table.labels_not_in_split,
        ),
        *(
            (f"drift.{name}", f"drift: {meaning}", getattr(limits.drift, name))
            for name, meaning in MEANINGS.items()
        ),
    ]


def _limited(name: str, about: str, threshold: Threshold) -> list[Expectation]:
    meta = _meta(name, about) | {"warn": threshold.warn, "stop": threshold.stop}
    expectations = [
        gxe.ExpectColumnValuesToBeBetween(
            column=name, max_value=limit, severity=severity, meta=meta
        )
        for limit, severity in ((threshold.warn, "warning"), (threshold.stop, "critical"))
        if limit is not None
    ]
    measured = gxe.ExpectColumnValuesToBeBetween(
        column=name, min_value=0, severity="info", meta=meta
    )
    return expectations or [measured]


def _meta(name: str, about: str, *, reject: bool = False) -> dict[str, Any]:
    return {"name": name, "about": about, "reason": name if reject else None}


def _suite(name: str, expectations: list[Expectation]) -> ExpectationSuite:
    for place, expectation in enumerate(expectations):
        expectation.meta = {**expectation.meta, "place": place}
    return ExpectationSuite(name=name, expectations=expectations)
