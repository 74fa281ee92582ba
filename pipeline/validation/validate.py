"""The validate stage's one call: the user's source → rows that can be trained on, and the rest."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline import paths
from pipeline.artifacts import new_folder, write_json, write_text
from pipeline.data.inspection import Inspector
from pipeline.data.pairs import (
    IMAGE,
    IMAGES_FILE,
    PAIR,
    PAIRS_FILE,
    REJECTED,
    REJECTED_FILE,
    TableWriter,
    tally,
)
from pipeline.data.scripts import count_words
from pipeline.data.sources.batches import Source
from pipeline.data.sources.detect import open_source
from pipeline.errors import DataError
from pipeline.params import DataParams, ValidateParams
from pipeline.validation import drift
from pipeline.validation.digests import Digests
from pipeline.validation.docs import data_docs
from pipeline.validation.expectations import row_suite, table_suite
from pipeline.validation.figures import Figure, Figures
from pipeline.validation.looking import look
from pipeline.validation.packing import Packer
from pipeline.validation.profile import ProfileBuilder
from pipeline.validation.reasons import check_reasons, limited_reasons
from pipeline.validation.report import RowCheck, check_table
from pipeline.validation.telling import DOCS_FILE, source_line, stop_message, warning_line

FAILED = paths.failed_folder("validate")
"""What was found by a validate that stopped: `quality`, and the rejected rows."""

CHECKED = 50_000
"""Rows checked together: each run of a suite costs 50 ms, however few they are."""

CountTokens = Callable[[Sequence[str]], np.ndarray[Any, np.dtype[np.int64]]]


def validate(
    data: DataParams,
    limits: ValidateParams,
    *,
    count_tokens: CountTokens,
    token_limit: int,
    folder: Path,
    packed: Path,
    quality: Path,
    accepted: Path,
    cache: Path | None,
    failed: Path = FAILED,
) -> dict[str, Any]:
    """Check every row of the source; write pairs, images and rejected rows to `folder`.

    `count_tokens` counts those of each caption for the model's own tokenizer, of which it reads
    `token_limit`. Images that came inside other files go to tars in `packed`. What was found of the
    table as a whole goes to `quality`, or to `failed` where that stops it. Drift is against the
    profiles in `accepted`; `cache` is a file of what is known of images, or None.

    Returns the metrics; accepted + rejected = read. Raises ConfigError for a limit of a reason that
    there is not; DataError when the source can't be read, when no row is left, and when a
    figure of the table is above its `stop`, naming it and the first rows.
    """
    check_reasons(limits)
    source = open_source(data)
    tqdm.write(source_line(source))
    with new_folder(folder) as valid, new_folder(packed) as tars, new_folder(quality) as told:
        rows = _Rows(source, limits, count_tokens=count_tokens, token_limit=token_limit)
        rows.read(valid, tars, cache=cache)
        found, checks = rows.conclude(valid, told, accepted=accepted)
        for check in checks:
            if check["status"] == "warned":
                tqdm.write(warning_line(check))
        if any(check["status"] == "stopped" for check in checks):
            _keep(valid, told, failed)
            reasons = found["rejected"]
            said = stop_message(checks, source=source, reasons=reasons, failed=failed)
            raise DataError(said, left=failed)
    tqdm.write(tally(found, folder))
    return found


class _Rows:
    """The rows of a source, read once, and what is gathered of them on the way."""

    def __init__(
        self,
        source: Source,
        limits: ValidateParams,
        *,
        count_tokens: CountTokens,
        token_limit: int,
    ) -> None:
        self._source, self._limits = source, limits
        self._count_tokens, self._token_limit = count_tokens, token_limit
        self._check = RowCheck(row_suite(limits, split="split" in source.columns))
        self._figures = Figures(
            token_limit=token_limit,
            few_words=limits.table.short_captions.below_words,
            many_words=limits.table.long_captions.above_words,
        )
        self._profile = ProfileBuilder()
        self._images = Digests()

    def read(self, valid: Path, tars: Path, *, cache: Path | None) -> None:
        """Read, look at and check all rows; write them to `valid` and images to `tars`."""
        with ExitStack() as stack:
            pairs = stack.enter_context(TableWriter(valid / PAIRS_FILE, PAIR))
            images = stack.enter_context(TableWriter(valid / IMAGES_FILE, IMAGE))
            rejected = stack.enter_context(TableWriter(valid / REJECTED_FILE, REJECTED))
            for table in gathered(self._looked_at(tars, cache), least=CHECKED):
                failed = self._check.failed(table)
                reasons = table.merge(failed, on="pair")
                rejected.write(reasons)
                self._figures.reject(reasons)
                good = self._counted(table[~table["pair"].isin(failed["pair"])])
                new = good[self._are_new(good["image_id"])]
                pairs.write(good)
                images.write(new)
                self._figures.accept(good)
                self._profile.add(good, new)

    def conclude(
        self, valid: Path, quality: Path, *, accepted: Path
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Check the table as a whole, write `quality`; return the metrics and table checks."""
        counted = self._figures
        profile = self._profile.result()
        moved = drift.compare(profile, accepted)
        reasons = limited_reasons(self._limits, counted.reasons)
        figures = counted.result(valid / PAIRS_FILE, reasons=reasons)
        figures |= {f"drift.{name}": Figure(value) for name, value in moved["figures"].items()}
        checks = check_table(figures, table_suite(self._limits, occurred=counted.reasons))
        moved |= _judged(moved["reference"], checks)
        statuses = [check["status"] for check in checks]
        truncated = figures["truncated"].value if "truncated" in figures else None
        found = {
            "read": counted.read,
            "accepted": counted.accepted,
            "rejected": dict(sorted(counted.reasons.items())),
            "images": len(self._images),
            "tokens": {
                "limit": self._token_limit,
                "p50": counted.tokens.quantile(0.5),
                "p99": counted.tokens.quantile(0.99),
                "truncated_share": truncated,
            },
            "words": {
                "p50": counted.words.quantile(0.5),
                "p99": counted.words.quantile(0.99),
            },
            "checks": {name: statuses.count(name) for name in ("met", "measured", "warned")},
            "warned": [check["name"] for check in checks if check["status"] == "warned"],
            "drift": {"status": moved["status"], "figures": moved["figures"]},
        }
        _write_quality(
            quality,
            [*checks, *self._check.checks()],
            found=found,
            profile=profile,
            moved=moved,
            source=self._source,
        )
        return found, checks

    def _looked_at(self, tars: Path, cache: Path | None) -> Iterator[pd.DataFrame]:
        """Each batch of the source with the facts of its images and its malformed rows, by pair."""
        last = 0
        with (
            Packer(tars) as packer,
            Inspector(self._source.folder, self._limits, cache=cache) as inspector,
            tqdm(desc="validate", unit=" rows", leave=False, disable=None) as bar,
        ):
            for batch in self._source.batches():
                rows = look(
                    batch.rows, inspector=inspector, packer=packer, max_bytes=self._limits.max_bytes
                )
                table = _with_malformed(rows, batch.malformed)
                _require_next(table["pair"], after=last)
                last += len(table)
                bar.update(len(table))
                yield table

    def _counted(self, good: pd.DataFrame) -> pd.DataFrame:
        captions = good["caption"]
        codes, distinct = pd.factorize(captions)
        tokens = self._count_tokens(distinct.tolist()) if len(distinct) else np.empty(0, np.int64)
        words = np.fromiter(map(count_words, distinct), dtype=np.int64, count=len(distinct))
        return good.assign(words=words[codes], tokens=tokens[codes], image_group=None)

    def _are_new(self, image_ids: pd.Series) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of the rows are the first of their image in the whole source."""
        first = ~image_ids.duplicated().to_numpy()
        digests = [bytes.fromhex(image_id) for image_id in image_ids[first]]
        known = self._images.find(digests)
        for digest in digests:
            if digest not in known:
                self._images.add(digest, 0)
        first[first] = [digest not in known for digest in digests]
        return first


def gathered(frames: Iterable[pd.DataFrame], *, least: int) -> Iterator[pd.DataFrame]:
    """The frames, small ones joined until they have `least` rows."""
    waiting: list[pd.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= least:
            yield pd.concat(waiting, ignore_index=True)
            waiting = []
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def _with_malformed(rows: pd.DataFrame, malformed: pd.DataFrame) -> pd.DataFrame:
    """All rows by pair; `malformed` holds what is wrong with those that could not be read."""
    bad = malformed.rename(columns={"value": "malformed"})
    bad = bad.astype({"pair": "int64", "source_row": "int64", "malformed": "str"})
    if bad.empty:
        return rows.assign(malformed=pd.Series(None, index=rows.index, dtype="str"))
    table = pd.concat([rows, bad], ignore_index=True).sort_values("pair", ignore_index=True)
    kinds = {name: rows[name].dtype for name in rows if name not in bad}
    numbers = {"width": 0, "height": 0, "brightness": 0, "packed": False}
    return table.fillna(numbers).astype(kinds)


def _require_next(pairs: pd.Series, *, after: int) -> None:
    """Every pair is there once: accepted + rejected = read, and read is the last number."""
    if not np.array_equal(pairs, np.arange(after + 1, after + len(pairs) + 1)):
        raise RuntimeError(f"the pairs after {after} are not numbered one by one")


def _judged(reference: Any, checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The status of the drift, and the figures above a limit."""
    of_drift = [check for check in checks if check["name"].startswith("drift.")]
    above = [check for check in of_drift if check["status"] in ("warned", "stopped")]
    names = [check["name"].removeprefix("drift.") for check in above]
    if reference is None:
        return {"status": "none", "warned": names}
    if any(check["status"] == "stopped" for check in above):
        return {"status": "stopped", "warned": names}
    return {"status": "warned" if above else "steady", "warned": names}


def _write_quality(
    folder: Path,
    checks: list[dict[str, Any]],
    *,
    found: dict[str, Any],
    profile: dict[str, Any],
    moved: dict[str, Any],
    source: Source,
) -> None:
    seen = {
        "format": source.format,
        "files": len(source.files),
        "columns": source.columns,
        "guessed": source.guessed,
        "notes": source.notes,
    }
    write_json(folder / "checks.json", checks)
    write_json(folder / "profile.json", profile)
    write_json(folder / "drift.json", moved)
    write_json(folder / "source.json", seen)
    # The page tells the drift in a section of its own.
    shown = [check for check in checks if not check["name"].startswith("drift.")]
    page = data_docs(shown, source=seen, found=found, profile=profile, drift=moved)
    write_text(folder / DOCS_FILE, page)


def _keep(valid: Path, quality: Path, failed: Path) -> None:
    with new_folder(failed) as kept:
        shutil.copytree(quality, kept / "quality")
        shutil.copyfile(valid / REJECTED_FILE, kept / REJECTED_FILE)
