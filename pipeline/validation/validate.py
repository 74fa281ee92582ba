"""The validate stage's one call: the user's source → rows that can be trained on, and the rest."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from pipeline.artifacts import new_folder
from pipeline.data.images import ImageFacts, inspect
from pipeline.data.pairs import reason_counts, tally, write_stage
from pipeline.data.sources import Source, read_source
from pipeline.errors import DataError
from pipeline.params import DataParams, ValidateParams
from pipeline.validation.expectations import suite
from pipeline.validation.report import check


def validate(data: DataParams, limits: ValidateParams, folder: Path) -> dict[str, Any]:
    """Check every row of the source; write accepted and rejected ones to `folder`.

    Returns read, accepted, rejected by reason, images; accepted + rejected = read.
    Raises DataError when the source can't be read, when no row is left, and when a larger share
    than `validate.max_rejected` is rejected.
    """
    source = read_source(data)
    facts = inspect_images(source.root, source.rows["image"].dropna(), limits)
    table = _with_facts(source.rows, facts)
    failed = check(table, suite(limits, data.columns))
    rejected = pd.concat([_malformed(source), _described(failed, source.rows)])
    accepted = table[~table["source_row"].isin(failed["source_row"])]
    _stop_if_too_few(accepted, rejected, limits, source)
    with new_folder(folder) as part:
        write_stage(part, _relative_to(Path(data.source), source.root, accepted), rejected)
    found = {
        "read": len(source.rows) + len(source.malformed),
        "accepted": len(accepted),
        "rejected": reason_counts(rejected["reason"]),
        "images": accepted["image_id"].nunique(),
    }
    tqdm.write(tally(found, folder))
    return found


def inspect_images(
    root: Path, names: pd.Series, limits: ValidateParams
) -> Mapping[str, ImageFacts]:
    """The facts of each distinct image path, inspected in threads, in the order of the names."""
    distinct = list(dict.fromkeys(names))
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda name: inspect(root, name, limits), distinct)
        bar = tqdm(
            found, total=len(distinct), desc="decode", unit=" images", leave=False, disable=None
        )
        return dict(zip(distinct, bar, strict=True))


def _with_facts(rows: pd.DataFrame, facts: Mapping[str, ImageFacts]) -> pd.DataFrame:
    none = ImageFacts()
    of_row = [none if image is None else facts[image] for image in rows["image"]]
    return rows.assign(
        image_id=[fact.image_id for fact in of_row],
        width=[fact.width for fact in of_row],
        height=[fact.height for fact in of_row],
        image_problem=pd.Series([fact.problem for fact in of_row], dtype=object),
        image_value=pd.Series([fact.value for fact in of_row], dtype=object),
    )


def _malformed(source: Source) -> pd.DataFrame:
    return source.malformed.assign(reason="row_malformed", image=None, caption=None)


def _described(failed: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return failed.merge(rows[["source_row", "image", "caption"]], on="source_row")


def _relative_to(source: Path, root: Path, accepted: pd.DataFrame) -> pd.DataFrame:
    """Image paths from the source, so that later stages need not know `image_root`."""
    prefix = root.relative_to(source)
    return accepted.assign(image=[(prefix / image).as_posix() for image in accepted["image"]])


def _stop_if_too_few(
    accepted: pd.DataFrame,
    rejected: pd.DataFrame,
    limits: ValidateParams,
    source: Source,
) -> None:
    share = len(rejected) / (len(accepted) + len(rejected))
    if not accepted.empty and share <= limits.max_rejected:
        return
    worst = rejected["reason"].value_counts()
    examples = [
        f"row {row.source_row}: {row.reason}: {row.value}"
        for row in rejected.sort_values("source_row").head(3).itertuples()
    ]
    summary = ", ".join(f"{name} {count}" for name, count in worst.items())
    wrong = (
        "no row is left"
        if accepted.empty
        else f"{share:.0%} of the rows are rejected, validate.max_rejected is {limits.max_rejected}"
    )
    raise DataError(
        "\n       ".join([f"{source.captions_file}: {wrong} ({summary}). The first:", *examples])
    )
