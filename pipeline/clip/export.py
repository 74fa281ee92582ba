"""Embeddings as other tools read them: the folders of clip-retrieval, row by row the same pair.

    img_emb/img_emb_0.npy     vectors of the images, a row a pair
    text_emb/text_emb_0.npy   vectors of the captions
    metadata/metadata_0.parquet   image_path, caption, image_id, pair, label, split

clip-retrieval's `index` and autofaiss read them, and so does faiss by `index.add(numpy.load(…))`.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.artifacts import new_folder, sha256_text
from pipeline.clip import store
from pipeline.clip.cache import as_ids
from pipeline.data.pairs import read_pairs
from pipeline.errors import ConfigError, DataError

ROWS = 1_000_000
"""Pairs of a part, as clip-retrieval writes them by default."""

COLUMNS = ("caption", "image_id", "pair", "label", "split")


def export(
    clean: Path,
    embeddings: Path,
    folder: Path,
    *,
    dtype: Literal["fp16", "fp32"],
    rows: int = ROWS,
) -> int:
    """Write the pairs of `clean` with their vectors into a new `folder`; return how many.

    Raises ConfigError when `folder` is there already, DataError when there are no embeddings of
    these pairs.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name a folder that is not")
    try:
        pairs = read_pairs(clean)
        images, texts = (store.read(embeddings, name) for name in ("images", "texts"))
        with new_folder(folder) as part:
            for number, start in enumerate(range(0, len(pairs), rows)):
                here = pairs.iloc[start : start + rows]
                text_ids = [sha256_text(caption) for caption in here["caption"]]
                _vectors(part / "img_emb", number, images, here["image_id"].tolist(), dtype)
                _vectors(part / "text_emb", number, texts, text_ids, dtype)
                _metadata(part / "metadata", number, here)
    except (FileNotFoundError, KeyError) as error:
        raise DataError(
            f"{embeddings} does not hold the embeddings of {clean} ({error}): run `dvc repro embed`"
        ) from None
    return len(pairs)


def _vectors(
    folder: Path,
    number: int,
    source: store.Embeddings,
    ids: list[str],
    dtype: Literal["fp16", "fp32"],
) -> None:
    places = source.places_of(as_ids(ids))
    folder.mkdir(exist_ok=True)
    mapped = np.lib.format.open_memmap(
        folder / f"{folder.name}_{number}.npy",
        mode="w+",
        dtype=store.DTYPES[dtype],
        shape=(len(places), source.width),
    )
    for start in range(0, len(places), store.BLOCK):
        mapped[start : start + store.BLOCK] = source.rows(places[start : start + store.BLOCK])
    mapped.flush()


def _metadata(folder: Path, number: int, pairs: pd.DataFrame) -> None:
    folder.mkdir(exist_ok=True)
    table = pairs[["image", *COLUMNS]].rename(columns={"image": "image_path"})
    table.to_parquet(folder / f"{folder.name}_{number}.parquet", index=False)
