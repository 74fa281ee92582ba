"""All for which validate rejects a row. Apart from the suites, for whoever needs the names alone:
Great Expectations takes seconds to import.
"""

from collections.abc import Collection

from pipeline.errors import ConfigError
from pipeline.params import ValidateParams

IMAGE_REASONS = (
    "image_outside_root",
    "image_missing",
    "image_empty",
    "image_too_many_bytes",
    "image_too_many_pixels",
    "image_truncated",
    "image_unreadable",
    "image_mode_unsupported",
    "image_decoder_crashed",
    "image_decoder_too_slow",
    "image_too_small",
    "image_too_narrow",
)
ROW_REASONS = (
    "row_malformed",
    "image_not_given",
    "caption_empty",
    "caption_too_many_chars",
    "split_not_given",
    "split_unknown",
)
REASONS = (*ROW_REASONS, *IMAGE_REASONS)
"""In the order in which they are asked."""


def limited_reasons(limits: ValidateParams, occurred: Collection[str]) -> list[str]:
    """The reasons that have a limit, or for which a row was rejected; in the order of `REASONS`."""
    limited = limits.table.rejected_for
    return [reason for reason in REASONS if reason in limited or reason in occurred]


def check_reasons(limits: ValidateParams) -> None:
    """Raise ConfigError where `rejected_for` names what is no reason."""
    for reason in limits.table.rejected_for:
        if reason not in REASONS:
            raise ConfigError(
                f"params.yaml: `validate.table.rejected_for.{reason}`: no row is ever rejected so: "
                f"name one of {', '.join(REASONS)}"
            )
