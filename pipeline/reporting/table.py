"""Predictions as a table that MLflow shows beside those of other runs."""

from collections.abc import Mapping

import pandas as pd

MOST = 5000
"""Rows; the UI loads the table as a whole."""

COLUMNS = (
    "set",
    "image",
    "caption",
    "label",
    "base_label",
    "final_label",
    "base_rank_i2t",
    "final_rank_i2t",
)


def prediction_table(predictions: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row an image, in COLUMNS: of the target, then of the general sets, MOST in all.

    Images stand by their id, which is a hash: those that are left out were not picked.
    """
    parts = [frame.assign(set=name) for name, frame in predictions.items()]
    table = pd.concat([part[list(COLUMNS)].astype(object) for part in parts], ignore_index=True)
    kept = table.head(MOST)
    return kept.where(kept.notna(), None)
