"""Running validate on a small source, with outputs in a folder of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.params import Params
from pipeline.validation.validate import validate

LIMIT = 8
QUALITY = ("checks.json", "data_docs.html", "drift.json", "profile.json", "source.json")


def count_tokens(captions):
    """Stands for a tokenizer: a token a word, and two ends."""
    return np.array([len(caption.split()) + 2 for caption in captions], dtype=np.int64)


def folders(out: Path) -> dict[str, Path]:
    names = {"folder": "valid", "packed": "images", "quality": "quality", "failed": "failed"}
    return {key: out / name for key, name in names.items()}


def run(source: Path, out: Path, params: Params, **given: Any) -> dict[str, Any]:
    """Validate `source` into `out`: data, limits, table and drift update params."""
    data = params.data.model_copy(update={"source": str(source), **given.pop("data", {})})
    table = params.limits.table.model_copy(update=given.pop("table", {}))
    drift = params.limits.drift.model_copy(update=given.pop("drift", {}))
    limits = {"table": table, "drift": drift, **given.pop("limits", {})}
    arguments = {
        "count_tokens": count_tokens,
        "token_limit": LIMIT,
        "accepted": out / "accepted.json",
        "cache": None,
        **folders(out),
        **given,
    }
    return validate(data, params.limits.model_copy(update=limits), **arguments)


def read_table(source):
    return pd.read_csv(source / "captions.csv", dtype=object)


def embedded(source, pictures):
    """A Parquet file that holds the pictures; the second row has the first one's again."""
    contents = [(pictures / "images" / f"{i:02}.jpg").read_bytes() for i in (0, 0, 1, 2, 3)]
    contents.append(b"no image at all")
    images = [{"bytes": content, "path": f"{i}.jpg"} for i, content in enumerate(contents)]
    source.mkdir()
    frame = pd.DataFrame({"image": images, "caption": [f"a caption {i}" for i in range(6)]})
    frame.to_parquet(source / "train.parquet")
    return contents
