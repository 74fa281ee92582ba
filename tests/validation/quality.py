"""What validate leaves in data/quality, small enough to check by hand."""

from typing import Any

CHECKS: list[dict[str, Any]] = [
    {
        "name": "rows",
        "level": "table",
        "expectation": "expect_column_values_to_be_between(column='accepted', min_value=1)",
        "about": "number of pairs left",
        "reason": None,
        "observed": 9812,
        "warn": None,
        "stop": None,
        "status": "met",
        "count": 0,
        "examples": [],
    },
    {
        "name": "truncated",
        "level": "table",
        "expectation": "expect_column_values_to_be_between(column='truncated', max_value=0.2)",
        "about": "share of captions with more tokens than the model reads",
        "reason": None,
        "observed": 0.2513,
        "warn": 0.2,
        "stop": None,
        "status": "warned",
        "count": 2466,
        "examples": [{"source_row": 17, "value": "a very long story about a red star"}],
    },
    {
        "name": "caption_empty",
        "level": "row",
        "expectation": "expect_column_values_to_not_be_null(column='caption')",
        "about": "a caption says something",
        "reason": "caption_empty",
        "observed": None,
        "warn": None,
        "stop": None,
        "status": "met",
        "count": 0,
        "examples": [],
    },
    {
        "name": "image_problem",
        "level": "row",
        "expectation": "expect_column_values_to_be_null(column='image_problem')",
        "about": "the picture is there and can be decoded",
        "reason": "image_problem",
        "observed": None,
        "warn": None,
        "stop": None,
        "status": "met",
        "count": 188,
        "examples": [
            {"source_row": 4, "value": "images/4.jpg"},
            {"source_row": 9, "value": "images/9.jpg"},
        ],
    },
]

FOUND = {
    "read": 10000,
    "accepted": 9812,
    "rejected": {"image_missing": 150, "image_truncated": 38},
}

SOURCE = {
    "format": "table",
    "files": 1,
    "columns": {"image": "path", "caption": "text"},
    "guessed": ["caption"],
    "notes": ["split column ignored: fold1 is no split"],
}

DRIFT = {
    "reference": {"profile": "c0ffee" + "0" * 58, "rows": 8000},
    "figures": {
        "rows": 0.2265,
        "caption_words": 0.0,
        "vocabulary": 0.0,
        "labels": None,
        "image_side": 0.35,
        "brightness": 0.012,
    },
    "status": "warned",
    "warned": ["image_side"],
}
