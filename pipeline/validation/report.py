"""Running the suite, and what failed in which rows."""

import os
from typing import Any

import pandas as pd

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx
from great_expectations import ExpectationSuite
from great_expectations.data_context.types.base import ProgressBarsConfig

from pipeline.errors import DataError
from pipeline.validation.expectations import BY_COLUMN

OFFENDER = {
    "image_not_given": "image",
    "split_not_given": "split",
    "split_unknown": "split",
}
"""The column whose value a rejected row shows; that of a caption's reasons is the caption."""


def check(table: pd.DataFrame, suite: ExpectationSuite) -> pd.DataFrame:
    """Validate `table`; return source_row, reason and value of each row that fails, once.

    Raises DataError when an expectation about the table as a whole fails.
    """
    results = _validate(table, suite)
    broken = [r for r in results if not r["success"] and _meta(r)["reason"] is None]
    if broken:
        raise DataError("\n       ".join(_explain(result) for result in broken))
    failed = [_rows(result, table) for result in results if not result["success"]]
    if not failed:
        return pd.DataFrame({"source_row": [], "reason": [], "value": []})
    return pd.concat(failed).drop_duplicates("source_row", keep="first")


def _validate(table: pd.DataFrame, suite: ExpectationSuite) -> list[dict[str, Any]]:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("source").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    outcome = batch.validate(
        suite,
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["source_row"],
        },
    )
    results = [result.to_json_dict() for result in outcome.results]
    return sorted(results, key=lambda result: _meta(result)["place"])


def _meta(result: dict[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = result["expectation_config"]["meta"]
    return meta


def _rows(result: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """The rows that one expectation rejects, with its reason and the offending value."""
    listed = result["result"]["unexpected_index_list"]
    numbers = [entry["source_row"] for entry in listed]
    rows = table.set_index("source_row", drop=False).loc[numbers]
    reason = _meta(result)["reason"]
    by_value = reason == BY_COLUMN
    return pd.DataFrame(
        {
            "source_row": rows["source_row"].to_numpy(),
            "reason": rows[BY_COLUMN].to_numpy() if by_value else reason,
            "value": rows[
                "image_value" if by_value else OFFENDER.get(reason, "caption")
            ].to_numpy(),
        }
    )


def _explain(result: dict[str, Any]) -> str:
    config, seen = result["expectation_config"], result["result"]
    observed = seen.get("observed_value", seen.get("partial_unexpected_list"))
    kwargs = {k: v for k, v in config["kwargs"].items() if k != "batch_id"}
    return f"{config['type']}({kwargs}) does not hold: observed {observed}"
