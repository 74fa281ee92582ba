"""Columns of a source of which the pipeline itself makes nothing."""

from collections.abc import Sequence

import pandas as pd

from pipeline.data.sources.detect import open_source
from pipeline.data.sources.rows import BadRow
from pipeline.errors import DataError
from pipeline.params import DataParams


def named_columns(data: DataParams, names: Sequence[str], *, key: str) -> pd.DataFrame:
    """What the rows of a source hold in the columns `names`: a row each, by `source_row`.

    Without names nothing is read. Raises DataError for a column that no row has; `key` is where in
    params.yaml the names stand.
    """
    rows: list[int] = []
    values: dict[str, list[object]] = {name: [] for name in names}
    seen: dict[str, None] = {}
    for number, row in enumerate(open_source(data).reader() if names else (), start=1):
        if isinstance(row, BadRow):
            continue
        seen |= dict.fromkeys(row)
        rows.append(number)
        for name, column in values.items():
            column.append(row.get(name))
    missing = [name for name in names if name not in seen]
    if missing:
        raise DataError(
            f"{key} names {missing[0]!r}, and no row of {data.source} has such a column: "
            f"there are {', '.join(map(repr, seen)) or 'none'}"
        )
    index = pd.Index(rows, name="source_row", dtype="int64")
    return pd.DataFrame(values, index=index, columns=list(values), dtype=object)
