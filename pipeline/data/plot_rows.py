"""Rows that `dvc plots` draws."""

import re
from pathlib import Path

import pandas as pd

from pipeline.artifacts import write_text

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_QUOTES = str.maketrans("<>", "‹›")


def write_plot(path: Path, rows: pd.DataFrame) -> None:
    """Write a CSV for `dvc plots`, whose page puts every value into a script as it is.

    A class called `</script><script>…` would run there, so what could be a tag gets ‹ and ›; the
    name stays readable, and `a < b` as it is.
    """
    inert = rows.apply(lambda column: column.map(_without_tags))
    write_text(path, inert.to_csv(index=False))


def _without_tags(value: object) -> object:
    return value.translate(_QUOTES) if isinstance(value, str) and _TAG.search(value) else value
