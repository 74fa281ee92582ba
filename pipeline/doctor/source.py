"""The source, by its names, headers and first rows."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from statistics import fmean, median
from typing import Any, NamedTuple

import pandas as pd

from pipeline.data.sources.batches import Batch, Source
from pipeline.data.sources.detect import open_source
from pipeline.data.sources.rows import BadRow, Row
from pipeline.doctor import rows, told
from pipeline.doctor.findings import Finding, Look
from pipeline.doctor.pictures import Picture, Wanted, inspect
from pipeline.doctor.seen import Sample
from pipeline.errors import CliptuneError
from pipeline.params import CleanParams, DataParams, EvaluateParams, ValidateParams

SAMPLE = 200

QUICK = {"table", "coco", "class_folders"}
"""Formats of which `ROWS` rows are read in a second; of the others, whose rows hold pictures or
stand in a file each, `FEW_ROWS`. A smaller source is known to its end."""

ROWS = 50_000
FEW_ROWS = 5_000


class Read(NamedTuple):
    """What the first batch held; `names`: of all columns; `whole`: there is no other batch."""

    rows: pd.DataFrame
    malformed: pd.DataFrame
    names: list[str]
    whole: bool


def look(
    data: DataParams,
    limits: ValidateParams | None,
    clean: CleanParams | None,
    evaluate: EvaluateParams | None,
) -> tuple[Sample | None, Look]:
    """What the source holds and what is wrong with it; no sample where it can't be opened."""
    try:
        source = open_source(data)
        read = _read(source)
    except CliptuneError as error:
        return None, Look([_refused(error, data)], [])
    if read.rows.empty:
        first = read.malformed.iloc[0]
        problem = f"no row parses; the first, row {first.source_row}: {first.value}"
        finding = Finding("stops", "data.source", data.source, problem, "mend the captions file")
        return None, Look([finding], list(told.source_facts(source)))
    taken = _spread(read.rows)
    found = inspect(_wanted(taken), source.folder, limits)
    sample = _sample(source, read, taken, found)
    findings = [
        *told.malformed(read.malformed, read.rows, limits),
        *told.bad_pictures(found, source, data, limits),
        *told.captions(taken, clean),
        *told.columns(read.names, evaluate, whole=read.whole),
    ]
    facts = [*told.source_facts(source), *told.counts(sample), *told.picture_facts(sample, found)]
    return sample, Look(findings, facts)


def _read(source: Source) -> Read:
    limit = ROWS if source.format in QUICK else FEW_ROWS
    names: dict[str, None] = {}

    def reader() -> Iterator[Row | BadRow]:
        for row in islice(source.reader(), limit):
            names.update(dict.fromkeys(() if isinstance(row, BadRow) else row))
            yield row

    batches = replace(source, reader=reader).batches()
    first = next(batches, Batch(pd.DataFrame(), pd.DataFrame()))
    read = len(first.malformed)
    read += 0 if first.rows.empty else first.rows["source_row"].nunique()
    whole = read < limit and next(batches, None) is None
    return Read(first.rows, first.malformed, list(names), whole)


def _spread(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows at equal distances: the first alone are often of one class."""
    step = max(len(frame) // SAMPLE, 1)
    return frame.iloc[::step][:SAMPLE]


def _wanted(frame: pd.DataFrame) -> list[Wanted]:
    named = frame[frame["image"].notna()].drop_duplicates("image")
    columns = ("image", "file", "offset", "length", "content")
    return [
        Wanted(name, _or_none(file), _whole(offset), _whole(length), _or_none(content))
        for name, file, offset, length, content in zip(*(named[c] for c in columns), strict=True)
    ]


def _sample(source: Source, read: Read, taken: pd.DataFrame, found: list[Picture]) -> Sample:
    frame = read.rows
    read_rows = frame["source_row"].nunique() + len(read.malformed)
    named = frame["image"].nunique()
    total, exact = _total(source, read, read_rows)
    each = total / read_rows
    split = frame.dropna(subset=["split"]).drop_duplicates("image")["split"].value_counts()
    opened = [picture for picture in found if picture.width]
    opened = [picture for picture in opened if not picture.problem] or opened
    return Sample(
        format=source.format,
        columns=source.columns,
        exact=exact,
        whole=read.whole,
        rows=total,
        pairs=each * len(frame),
        images=each * named,
        splits={str(name): int(count) for name, count in split.items()},
        labelled=bool(frame["label"].notna().any()),
        captions=[str(caption) for caption in taken["caption"].dropna()],
        looked=len(found),
        bad=dict(Counter(p.problem for p in found if p.problem)),
        side=median([min(p.width, p.height) for p in opened]) if opened else 0,
        pixels=median([p.width * p.height for p in opened]) if opened else 0,
        embedded=bool(frame["content"].notna().any()),
        image_bytes=fmean([picture.size for picture in opened]) if opened else 0,
    )


def _total(source: Source, read: Read, read_rows: int) -> tuple[float, bool]:
    """Rows of the source, and whether it was read, or counted, to its end."""
    if read.whole:
        return read_rows, True
    counted = rows.count(source.files, source.folder, format_=source.format)
    if counted is not None and counted[0] >= read_rows:
        return counted
    size = sum(file.stat().st_size for file in source.files if file.is_file())
    passed = _passed(read.rows)
    return max(size * read_rows / passed if passed else 0.0, float(read_rows)), False


def _passed(frame: pd.DataFrame) -> int:
    """Bytes of the files that were read for these rows, where pictures lie in them."""
    content = sum(len(content) for content in frame["content"].dropna())
    parts = frame.dropna(subset=["offset"])
    return content + int((parts["offset"] + parts["length"]).groupby(parts["file"]).max().sum())


def _refused(error: CliptuneError, data: DataParams) -> Finding:
    """What a stage would stop with; the message holds value and remedy."""
    named = re.search(r"\bdata\.(columns\.)?\w+", str(error))
    key = named.group() if named else "data.source"
    return Finding("stops", key, data.source if key == "data.source" else None, str(error), "")


def _or_none(value: Any) -> Any:
    return None if value is None or pd.isna(value) else value


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
