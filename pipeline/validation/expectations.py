"""What we expect of the data, as a Great Expectations suite.

The table checked has a row for each source row: its fields, and of its image what
`pipeline.data.images.inspect` found (`image_problem`: a reason or null). A row-level expectation
names in its `meta` the reason with which it rejects a row; one without a reason is about the table
as a whole, and stops the pipeline.
"""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation

from pipeline.data.pairs import SPLITS
from pipeline.params import Columns, ValidateParams

BY_COLUMN = "image_problem"
"""The column whose values are themselves reasons."""


def suite(limits: ValidateParams, columns: Columns) -> ExpectationSuite:
    """The expectations, in the order in which the first to fail gives a row its reason."""
    listed = [*_table(), *_images(), *_captions(limits), *_split(columns)]
    for place, (expectation, reason) in enumerate(listed):
        expectation.meta = {"place": place, "reason": reason}
    return ExpectationSuite(name="pairs", expectations=[expectation for expectation, _ in listed])


Listed = list[tuple[Expectation, str | None]]


def _table() -> Listed:
    return [
        (gxe.ExpectTableRowCountToBeBetween(min_value=1), None),
        (gxe.ExpectColumnValuesToBeUnique(column="source_row"), None),
        (gxe.ExpectColumnValuesToNotBeNull(column="source_row"), None),
    ]


def _images() -> Listed:
    return [
        (gxe.ExpectColumnValuesToNotBeNull(column="image"), "image_not_given"),
        (gxe.ExpectColumnValuesToBeNull(column=BY_COLUMN), BY_COLUMN),
    ]


def _captions(limits: ValidateParams) -> Listed:
    return [
        (gxe.ExpectColumnValuesToNotBeNull(column="caption"), "caption_empty"),
        (
            gxe.ExpectColumnValueLengthsToBeBetween(
                column="caption", max_value=limits.max_caption_chars
            ),
            "caption_too_many_chars",
        ),
    ]


def _split(columns: Columns) -> Listed:
    if columns.split is None:
        return []
    return [
        (gxe.ExpectColumnValuesToNotBeNull(column="split"), "split_not_given"),
        (
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
            "split_unknown",
        ),
    ]
