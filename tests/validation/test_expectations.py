import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.params import DriftParams, LongCaptions, ShortCaptions, TableParams, Threshold
from pipeline.validation.expectations import ROW_COLUMNS, limit_key, row_suite, table_suite
from pipeline.validation.figures import Figure
from pipeline.validation.reasons import IMAGE_REASONS, REASONS
from pipeline.validation.report import RowCheck, check_table

ROOT = Path(__file__).parents[2]
TEXTS = [name for name in (*ROW_COLUMNS, "image_value") if name not in ("pair", "source_row")]


def table(*rows, first=1):
    """Rows that pass, but for what each mapping says."""
    good = {"image": "a.jpg", "caption": "a cat", "split": "train"}
    filled = [{**dict.fromkeys(TEXTS), **good, **row} for row in rows]
    frame = pd.DataFrame(filled, columns=TEXTS).astype("str")
    numbers = np.arange(first, first + len(rows))
    return frame.assign(pair=numbers, source_row=numbers)


def checked(limits, *tables, split=True):
    check = RowCheck(row_suite(limits, split=split))
    failed = pd.concat([check.failed(each) for each in tables])
    return failed, {entry["name"]: entry for entry in check.checks()}


def reasons(failed):
    return dict(zip(failed["pair"], failed["reason"], strict=True))


def test_a_row_gets_the_reason_of_the_first_expectation_that_it_fails(defaults):
    failed, checks = checked(
        defaults.limits,
        table(
            {},
            {"malformed": "9 fields", "image": None, "caption": None, "split": None},
            {"image": None, "caption": None},
            {"image_problem": "image_truncated", "image_value": "cut", "caption": None},
            {"caption": None, "split": "fold1"},
            {"caption": "x" * 5001},
            {"caption": "x" * 5000, "split": None},
            {"split": "fold1"},
        ),
    )
    assert reasons(failed) == {
        2: "row_malformed",
        3: "image_not_given",
        4: "image_truncated",
        5: "caption_empty",
        6: "caption_too_many_chars",
        7: "split_not_given",
        8: "split_unknown",
    }
    assert failed["value"].fillna("none").tolist() == [
        "9 fields", "none", "cut", "none", "5001 characters", "none", "fold1",
    ]  # fmt: skip
    counts = {name: check["count"] for name, check in checks.items() if check["count"]}
    assert counts == dict.fromkeys(
        (
            "row_malformed", "image_not_given", "image_problem", "caption_empty",
            "caption_too_many_chars", "split_not_given", "split_unknown",
        ), 1,
    )  # fmt: skip


def test_counts_and_examples_gather_over_batches(defaults):
    bad = {"image_problem": "image_missing", "image_value": "none.jpg"}
    _, checks = checked(
        defaults.limits, table({}, bad, bad), table(bad, bad, first=4), table({}, first=6)
    )
    entry = checks["image_problem"]
    assert entry["count"] == 4
    assert entry["status"] == "warned"
    assert entry["examples"] == [{"source_row": row, "value": "none.jpg"} for row in (2, 3, 4)]
    assert entry["expectation"] == "expect_column_values_to_be_null(column='image_problem')"
    assert checks["caption_empty"]["status"] == "met"


def test_rows_need_no_split_where_the_source_has_none(defaults):
    failed, checks = checked(defaults.limits, table({"split": None}), split=False)
    assert failed.empty
    assert not {"split_not_given", "split_unknown"} & set(checks)


def test_a_whole_table_may_fail_or_hold_only_nulls(defaults):
    failed, _ = checked(defaults.limits, table(*[{"image": None, "caption": None}] * 3))
    assert set(failed["reason"]) == {"image_not_given"}


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"pair": [1, 1]}, r"expect_column_values_to_be_unique\(column='pair'\)"),
        ({"pair": ["1", "2"]}, "expect_column_values_to_be_of_type"),
        ({"source_row": [0, 1]}, r"between\(column='source_row', min_value=1"),
        ({"caption": [b"a", b"b"]}, r"of_type\(column='caption', type_='str'\)"),
    ],
)
def test_a_reader_that_breaks_its_promise_is_named(defaults, change, broken):
    with pytest.raises(RuntimeError, match=broken):
        checked(defaults.limits, table({}, {}).assign(**change))


def test_all_problems_of_images_are_known_as_reasons():
    sources = [file.read_text() for file in (ROOT / "pipeline" / "data").glob("*.py")]
    named = set(re.findall(r'problem="(image_\w+)"|return "(image_\w+)"', "\n".join(sources)))
    assert len(named) >= 10
    assert {one or other for one, other in named} <= set(IMAGE_REASONS)
    quoted = {name for source in sources for name in re.findall(r'"(image_\w+)"', source)}
    assert set(IMAGE_REASONS) <= quoted
    assert len(REASONS) == len(set(REASONS))


def thresholds(*, warn, stop):
    """A threshold for each figure of the table, with what else the figure needs."""
    table = {
        name: Threshold(warn=warn, stop=stop) for name in TableParams.model_fields
        if name != "rejected_for"
    }  # fmt: skip
    table["short_captions"] = ShortCaptions(below_words=3, warn=warn, stop=stop)
    table["long_captions"] = LongCaptions(above_words=9, warn=warn, stop=stop)
    return table


def table_limits(defaults, **table):
    free = {**thresholds(warn=None, stop=None), "rejected_for": {}}
    return defaults.limits.model_copy(
        update={"table": defaults.limits.table.model_copy(update={**free, **table})}
    )


@pytest.mark.parametrize(
    ("value", "warn", "stop", "status"),
    [
        (0.3, None, None, "measured"),
        (0.2, 0.2, 0.3, "met"),
        (0.200001, 0.2, 0.3, "warned"),
        (0.3, 0.2, 0.3, "warned"),
        (0.300001, 0.2, 0.3, "stopped"),
        (0.9, None, 0.3, "stopped"),
        (0.9, 0.2, None, "warned"),
        (0.0, 0.0, 0.0, "met"),
    ],
)
def test_a_figure_is_warned_above_warn_and_stopped_above_stop(defaults, value, warn, stop, status):
    limits = table_limits(defaults, truncated=Threshold(warn=warn, stop=stop))
    examples = [{"source_row": 3, "value": "x"}]
    (entry,) = check_table({"truncated": Figure(value, 7, examples)}, table_suite(limits))
    assert entry["status"] == status
    assert entry["name"] == "truncated"
    assert (entry["observed"], entry["warn"], entry["stop"]) == (value, warn, stop)
    assert (entry["count"], entry["examples"]) == (7, examples)
    broken = stop if status == "stopped" else warn if warn is not None else stop
    given = "min_value=0.0" if broken is None else f"max_value={broken}"
    called = f"expect_column_values_to_be_between(column='truncated', {given})"
    assert entry["expectation"] == called


def test_no_pair_left_stops(defaults):
    suite = table_suite(defaults.limits)
    assert check_table({"accepted": Figure(0)}, suite)[0]["status"] == "stopped"
    assert check_table({"accepted": Figure(1)}, suite)[0]["status"] == "met"


def test_a_figure_that_can_not_be_told_is_not_said_to_be_met(defaults):
    figures = {"accepted": Figure(1), "unlabelled": Figure(None), "drift.rows": Figure(None)}
    assert [e["name"] for e in check_table(figures, table_suite(defaults.limits))] == ["accepted"]


def test_each_threshold_in_params_makes_its_expectations(defaults):
    both = Threshold(warn=0.1, stop=0.2)
    table_both = thresholds(warn=0.1, stop=0.2)
    drift_both = dict.fromkeys(DriftParams.model_fields, both)
    limits = table_limits(defaults, **table_both, rejected_for={"image_missing": both})
    limits = limits.model_copy(update={"drift": DriftParams(**drift_both)})
    made = {
        (expectation.column, expectation.severity.value): expectation.max_value
        for expectation in table_suite(limits).expectations
        if expectation.column != "accepted"
    }
    names = {*table_both, "rejected_for.image_missing", *(f"drift.{name}" for name in drift_both)}
    assert made == {
        (name, severity): limit
        for name in names
        for severity, limit in (("warning", 0.1), ("critical", 0.2))
    }
    abouts = {each.column: each.meta["about"] for each in table_suite(limits).expectations}
    assert abouts["short_captions"] == "share of captions with fewer than 3 words"
    assert abouts["long_captions"] == "share of captions with more than 9 words"
    assert limit_key("drift.rows") == "validate.drift.rows"
    assert limit_key("rejected_for.image_missing") == "validate.table.rejected_for.image_missing"
