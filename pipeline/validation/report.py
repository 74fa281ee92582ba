"""Running the suites: which rows fail, and what each expectation found."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx
from great_expectations import ExpectationSuite
from great_expectations.data_context.types.base import ProgressBarsConfig

from pipeline.validation.examples import EXAMPLES, example
from pipeline.validation.expectations import BY_COLUMN, ROW_COLUMNS
from pipeline.validation.figures import Figure

for chatty in ("great_expectations", "great_expectations.data_context.types.base"):
    logging.getLogger(chatty).setLevel(logging.WARNING)

Result = Mapping[str, Any]

_OFFENDER = {
    "row_malformed": "malformed",
    BY_COLUMN: "image_value",
    "image_not_given": "image",
    "split_not_given": "split",
    "split_unknown": "split",
}
"""The column whose value a rejected row shows; that of a caption's reasons is the caption."""

_FAILED = {"pair": "int64", "reason": "str", "value": "str"}
_NOT_CALLED = ("batch_id", "mostly", "strict_min", "strict_max")


class RowCheck:
    """A row suite, run over the batches of one table."""

    def __init__(self, suite: ExpectationSuite) -> None:
        """Nothing is checked yet."""
        self._suite = _Runner(suite)
        self._checks = {
            result["meta"]["name"]: _row_entry(result) for result in self._suite.described()
        }

    def failed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The pair, reason and value of each row that fails, once, by pair.

        `table` has the columns of the suite, source_row and image_value. Raises RuntimeError when
        an expectation fails that rejects no row: that is a defect of a reader.
        """
        # GX tells of a failing row its label where labels have no name; to look up a column of each
        # row, as it can, takes ten times as long.
        rows = table.set_axis(table["pair"].to_numpy())
        found = []
        for result in self._suite.results(rows[list(ROW_COLUMNS)]):
            if result["success"]:
                continue
            if result["meta"]["reason"] is None:
                raise RuntimeError(_broken(result))
            found.append(_failing(result, rows))
        if not found:
            return pd.DataFrame({name: [] for name in _FAILED}).astype(_FAILED)
        failed = pd.concat(found).drop_duplicates("pair", keep="first")
        for name, some in failed.groupby("expectation"):
            self._note(self._checks[str(name)], some)
        return failed.sort_values("pair")[list(_FAILED)].astype(_FAILED)

    def checks(self) -> list[dict[str, Any]]:
        """An entry for each expectation, in order; a row counts for the first that it fails."""
        return list(self._checks.values())

    def _note(self, entry: dict[str, Any], failed: pd.DataFrame) -> None:
        entry["count"] += len(failed)
        entry["status"] = "warned"
        first = failed.sort_values("pair").head(EXAMPLES - len(entry["examples"]))
        entry["examples"] += list(map(example, first["source_row"], first["value"]))


def check_table(figures: Mapping[str, Figure], suite: ExpectationSuite) -> list[dict[str, Any]]:
    """An entry for each figure of the suite that is not null, in the suite's order.

    An entry's `status` is that of the severest expectation that failed, and `expectation` is that
    one, or else the first; a figure without a limit is `measured`, for nothing was asked of it.
    """
    runner = _Runner(suite)
    names = list(dict.fromkeys(result["meta"]["name"] for result in runner.described()))
    values = {name: [figures[name].value if name in figures else None] for name in names}
    entries: dict[str, dict[str, Any]] = {}
    for result in runner.results(pd.DataFrame(values).astype("float64")):
        name = result["meta"]["name"]
        figure = figures.get(name)
        if figure is None or figure.value is None:
            continue
        if name not in entries:
            entries[name] = _table_entry(result, figure)
        if not result["success"]:
            status = {"warning": "warned", "critical": "stopped"}[result["severity"]]
            entries[name] |= {"status": status, "expectation": _called(result)}
    return list(entries.values())


class _Runner:
    """One ephemeral context for as many tables as there are."""

    def __init__(self, suite: ExpectationSuite) -> None:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("source").add_dataframe_asset("table")
        self._batches = asset.add_batch_definition_whole_dataframe("all")
        self._suite = suite

    def described(self) -> list[Result]:
        """What is known of each expectation before it meets a table."""
        return [
            _described(expectation.configuration.to_json_dict())
            for expectation in self._suite.expectations
        ]

    def results(self, table: pd.DataFrame) -> list[Result]:
        """What came of each expectation, in the suite's order."""
        batch = self._batches.get_batch({"dataframe": table})
        outcome = batch.validate(self._suite, result_format={"result_format": "COMPLETE"})
        results = []
        for one in outcome.results:
            if one.exception_info.get("raised_exception"):
                raise RuntimeError(f"Great Expectations failed: {one.exception_info}")
            config = one.expectation_config.to_json_dict()
            found = {"success": bool(one.success), "result": one.result}
            results.append(_described(config) | found)
        return sorted(results, key=lambda result: result["meta"]["place"])


def _described(config: Mapping[str, Any]) -> dict[str, Any]:
    kwargs = {k: v for k, v in config["kwargs"].items() if k not in _NOT_CALLED and v is not None}
    return {
        "type": config["type"], "kwargs": kwargs, "meta": config["meta"],
        "severity": config["severity"],
    }  # fmt: skip


def _failing(result: Result, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that one expectation rejects, with its reason and the offending value."""
    failing = rows.loc[result["result"]["unexpected_index_list"]]
    reason = result["meta"]["reason"]
    values = failing[_OFFENDER.get(reason, "caption")]
    if reason == "caption_too_many_chars":
        values = values.str.len().astype("str") + " characters"
    return pd.DataFrame(
        {
            "pair": failing["pair"].to_numpy(),
            "source_row": failing["source_row"].to_numpy(),
            "reason": failing[BY_COLUMN].to_numpy() if reason == BY_COLUMN else reason,
            "value": values.to_numpy(),
            "expectation": reason,
        }
    )


def _row_entry(result: Result) -> dict[str, Any]:
    meta = result["meta"]
    entry = {"name": meta["name"], "level": "row", "about": meta["about"], "reason": meta["reason"]}
    limits = {"observed": None, "warn": None, "stop": None}
    found = {"status": "met", "count": 0, "examples": []}
    return entry | {"expectation": _called(result)} | limits | found


def _table_entry(result: Result, figure: Figure) -> dict[str, Any]:
    meta = result["meta"]
    return {
        "name": meta["name"],
        "level": "table",
        "expectation": _called(result),
        "about": meta["about"],
        "reason": None,
        "observed": figure.value,
        "warn": meta.get("warn"),
        "stop": meta.get("stop"),
        "status": "measured" if result["severity"] == "info" else "met",
        "count": figure.count,
        "examples": list(figure.examples),
    }


def _called(result: Result) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in result["kwargs"].items())
    return f"{result['type']}({given})"


def _broken(result: Result) -> str:
    seen = result["result"]
    observed = seen.get("observed_value", seen.get("partial_unexpected_list"))
    return f"a reader broke its promise: {_called(result)} does not hold: observed {observed}"
