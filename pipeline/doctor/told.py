"""What the sample of the source tells: facts, and what is wrong with rows, pictures, captions."""

from collections.abc import Sequence
from statistics import median

import pandas as pd

from pipeline.data.scripts import count_words
from pipeline.data.sources.batches import Source
from pipeline.doctor import missing
from pipeline.doctor.findings import Fact, Finding, Level, about, percent
from pipeline.doctor.pictures import Picture
from pipeline.doctor.seen import Sample
from pipeline.params import CleanParams, DataParams, EvaluateParams, ValidateParams

REMEDIES = {
    "image_missing": ("data.image_root", ""),
    "image_outside_root": ("data.image_root", ""),
    "image_empty": ("data.source", "copy these files again"),
    "image_unreadable": ("data.source", "mend or remove these files"),
    "image_truncated": ("data.source", "copy these files again"),
    "image_mode_unsupported": ("data.source", "convert these files to 8 bits a channel"),
    "image_decoder_crashed": ("data.source", "remove these files"),
    "image_decoder_too_slow": ("data.source", "remove these files"),
    "image_too_many_bytes": ("validate.max_bytes", "raise it"),
    "image_too_many_pixels": ("validate.max_pixels", "raise it"),
    "image_too_small": ("validate.min_side", "lower it, if so small pictures are of use"),
    "image_too_narrow": ("validate.max_aspect", "raise it, or crop these pictures"),
}


def source_facts(source: Source) -> list[Fact]:
    """Format, files and columns, and what the reader notes of them."""
    names = [file.relative_to(source.folder).as_posix() for file in source.files[:3]]
    more = f" and {len(source.files) - 3:,} more" if len(source.files) > 3 else ""
    guessed = [
        f"{f}: {c}" + (" (guessed)" if f in source.guessed else "")
        for f, c in source.columns.items()
    ]
    facts = [
        Fact("data", "source", f"{source.folder}/", str(source.folder)),
        Fact("data", "format", source.format),
        Fact("data", "captions in", ", ".join(names) + more, len(source.files)),
        Fact("data", "columns", ", ".join(guessed), {**source.columns, "guessed": source.guessed}),
    ]
    facts += [Fact("data", "note", note) for note in source.notes]
    return [fact for fact in facts if fact.text]


def counts(sample: Sample) -> list[Fact]:
    """Rows, captions, and pictures by the user's own split."""
    rough = about if not sample.whole else lambda number: f"{number:,.0f}"
    told = f"{sample.rows:,.0f}" if sample.exact else about(sample.rows)
    exact = {"rows": round(sample.rows), "exact": sample.exact}
    each = sample.pairs / sample.images if sample.images else 0
    facts = [
        Fact("data", "rows", told, exact),
        Fact(
            "data", "captions", f"{rough(sample.pairs)}, {each:.3g} a picture", round(sample.pairs)
        ),
    ]
    if sample.splits:
        own = ", ".join(f"{name} {count:,}" for name, count in sample.splits.items())
        where = "" if sample.whole else " among the first rows"
        facts.append(Fact("data", "own split", f"pictures{where}: {own}", dict(sample.splits)))
    return facts


def picture_facts(sample: Sample, found: Sequence[Picture]) -> list[Fact]:
    """How many pictures are fine, their sides, and the length of captions."""
    fine = sample.looked - sum(sample.bad.values())
    facts = [
        Fact(
            "data",
            "pictures",
            f"{fine} of {sample.looked} looked at are fine",
            {"looked": sample.looked, "fine": fine, "bad": dict(sample.bad)},
        )
    ]
    opened = [picture for picture in found if picture.width and not picture.problem]
    if opened:
        sides = sorted(min(picture.width, picture.height) for picture in opened)
        text = f"{sides[0]} to {sides[-1]} pixels, half of them below {sample.side:.0f}"
        facts.append(Fact("data", "shorter side", text, [sides[0], sample.side, sides[-1]]))
    words = sorted(map(count_words, sample.captions))
    if words:
        text = f"{words[0]} to {words[-1]} words, half of them below {median(words):.0f}"
        facts.append(Fact("data", "caption length", text, [words[0], median(words), words[-1]]))
    return facts


def malformed(
    malformed_rows: pd.DataFrame, good: pd.DataFrame, limits: ValidateParams | None
) -> list[Finding]:
    """Rows that do not parse, by their share of those read."""
    count = len(malformed_rows)
    if not count:
        return []
    first = malformed_rows.iloc[0]
    share = count / (count + len(good))
    problem = (
        f"{count:,} of the {count + len(good):,} first rows do not parse; the first, row "
        f"{first.source_row}: {first.value}"
    )
    level = _level(share, limits)
    return [Finding(level, "data.source", None, problem, "mend them, or let them be rejected")]


def bad_pictures(
    found: Sequence[Picture], source: Source, data: DataParams, limits: ValidateParams | None
) -> list[Finding]:
    """A finding a reason for which pictures will be rejected, the most frequent first."""
    by_reason: dict[str, list[Picture]] = {}
    for picture in found:
        if picture.problem is not None:
            by_reason.setdefault(picture.problem, []).append(picture)
    findings = []
    for reason, pictures in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        key, remedy = REMEDIES[reason]
        problem = f"{len(pictures)} of {len(found)} pictures looked at: {reason}"
        if reason in {"image_missing", "image_outside_root"}:
            why, remedy = missing.cause(source.folder, pictures[0].name, image_root=data.image_root)
            problem = f"{problem}; {why}"
        else:
            problem = f"{problem}, as {pictures[0].name}"
        value = _value(key, data, limits)
        findings.append(
            Finding(_level(len(pictures) / len(found), limits), key, value, problem, remedy)
        )
    return findings


def captions(taken: pd.DataFrame, clean: CleanParams | None) -> list[Finding]:
    """Captions that are missing, or that `clean` rejects for their length."""
    findings = []
    empty = taken["caption"].isna().mean()
    if empty > 0.1:
        problem = f"{percent(empty)} of the rows looked at have no caption: they are rejected"
        level: Level = "stops" if empty == 1 else "hurts"
        remedy = "name another column"
        findings.append(Finding(level, "data.columns.caption", None, problem, remedy))
    if clean is None or empty == 1:
        return findings
    words = taken["caption"].dropna().map(count_words)
    for key, value, outside in (
        ("clean.min_words", clean.min_words, words < clean.min_words),
        ("clean.max_words", clean.max_words, words > clean.max_words),
    ):
        share = outside.mean()
        if share > 0.1:
            problem = (
                f"rejects {percent(share)} of the captions looked at (median {words.median():.0f})"
            )
            level = "stops" if share == 1 else "hurts"
            remedy = "lower it" if key.endswith("min_words") else "raise it"
            findings.append(Finding(level, key, value, problem, remedy))
    return findings


def _level(share: float, limits: ValidateParams | None) -> Level:
    """How bad it is that this share of rows is rejected."""
    stop = limits.table.rejected.stop if limits is not None else None
    if share == 1 or (stop is not None and share > stop):
        return "stops"
    warn = limits.table.rejected.warn if limits is not None else None
    return "hurts" if share > (0.1 if warn is None else warn) else "note"


def _value(key: str, data: DataParams, limits: ValidateParams | None) -> object:
    section, name = key.split(".")
    return getattr(data if section == "data" else limits, name)


def columns(names: Sequence[str], evaluate: EvaluateParams | None, *, whole: bool) -> list[Finding]:
    """Columns to cut the test pictures by that no row has, which stops evaluate, after training."""
    asked = [] if evaluate is None else evaluate.slices.columns
    seen = f"there are {', '.join(map(repr, names))}"
    rows = "no row" if whole else "none of the first rows"
    return [
        Finding(
            "stops" if whole else "hurts",
            "evaluate.slices.columns",
            name,
            f"{rows} of the source has such a column, without which evaluate stops: {seen}",
            "name one of these, or leave it out",
        )
        for name in asked
        if name not in names
    ]
