"""Data Docs: what validate found, as one page that asks nothing of the network and runs nothing.

The results and the expectations are Great Expectations'; the page is not. GX's own, as of 1.24
(`DefaultJinjaPageView` of `ValidationResultsPageRenderer`), loads Bootstrap, jQuery, Vega and fonts
from seven hosts, names its elements by random ids, prints when it ran, and writes the values that
failed unescaped: a caption `<img src=x onerror=…>` runs. This page is the same bytes for the same
data, and inert: all is escaped, and its policy forbids scripts and requests.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"

SIGNS = {"met": "✓", "measured": "·", "steady": "✓", "warned": "▲", "stopped": "■"}
MEANINGS = {
    "rows": "change of the number of pairs",
    "caption_words": "share of captions of another length",
    "vocabulary": "share of words that the reference does not know",
    "labels": "share of pairs with another label",
    "image_side": "share of pictures of another size",
    "brightness": "share of pictures of another brightness",
}
ASPECTS = (
    "taller than 1:3",
    "1:3 to 1:2",
    "1:2 to 2:3",
    "2:3 to 3:4",
    "3:4 to square",
    "square",
    "square to 4:3",
    "4:3 to 3:2",
    "3:2 to 2:1",
    "2:1 to 3:1",
    "wider than 3:1",
)

_LINE_CHARS = 160
_LISTED = 16
_LISTED_REASONS = 60


@dataclass(frozen=True)
class Bar:
    """A count, and its length in thousandths; `rest` stands for what is not listed."""

    name: str
    count: int
    size: int
    rest: bool = False


@dataclass(frozen=True)
class Bars:
    """Named counts, the largest first."""

    title: str
    text: str
    bars: list[Bar]


@dataclass(frozen=True)
class Histogram:
    """Bins from the first to the last that is not empty; `middle` tells where the median lies."""

    title: str
    middle: str
    unit: str
    counted: str
    bars: list[Bar]


def data_docs(
    checks: list[dict[str, Any]],
    *,
    source: Mapping[str, Any],
    found: Mapping[str, Any],
    profile: Mapping[str, Any],
    drift: Mapping[str, Any],
) -> str:
    """The page, the same for the same inputs.

    `checks`, `source`, `profile` and `drift` are what stands in the JSON files of `data/quality`;
    `found` are the stage's metrics, of which `read`, `accepted` and `rejected` by reason are used.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "line": line, "words": _words, "call": _call}
    by_level = {
        level: [check for check in checks if check["level"] == level] for level in ("table", "row")
    }
    page = environment.get_template("data_docs.html.j2").render(
        verdict=verdict(by_level["table"], found=found, drift=drift),
        table=by_level["table"],
        rows=by_level["row"],
        rejected=_ranked(found["rejected"], limit=_LISTED_REASONS, words=True),
        source=source,
        found=found,
        profile=profile,
        histograms=_histograms(profile),
        lists=_lists(profile),
        drift=drift,
        signs=SIGNS,
        meanings=MEANINGS,
    )
    return page.strip() + "\n"


def verdict(
    table: Sequence[Mapping[str, Any]], *, found: Mapping[str, Any], drift: Mapping[str, Any]
) -> list[str]:
    """Sentences, the most important first."""
    rejected = sum(found["rejected"].values())
    passed = f"{found['accepted']:,} of {found['read']:,} pairs passed every check of their row"
    rows = f"{passed}; {rejected:,} were rejected." if rejected else f"{passed}."
    stopped, warned = (
        [check["about"] for check in table if check["status"] == status]
        for status in ("stopped", "warned")
    )
    said = []
    if stopped:
        said.append(f"The pipeline stops for {_series(stopped)}.")
    if drift["status"] == "stopped":
        said.append(f"The pipeline stops: the data drifted in {_series(drift['warned'])}.")
    said.append(rows)
    if warned:
        said.append(f"{'Warnings' if len(warned) > 1 else 'Warning'}: {_series(warned)}.")
    elif not stopped:
        said.append("The table as a whole meets all that was expected of it.")
    if drift["status"] == "warned":
        said.append(f"Since the last accepted data it drifted in {_series(drift['warned'])}.")
    if drift["status"] == "steady":
        said.append("It is like the data that was accepted last.")
    return said


def figure(value: Any) -> str:
    """A value of any kind for people: three digits of a small number, thousands parted."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def line(value: Any) -> str:
    """A text on one line, cut to 160 characters, without what does not print or turns its order."""
    text = " ".join(str(value).split())
    text = text if len(text) <= _LINE_CHARS else text[: _LINE_CHARS - 1].rstrip() + "…"
    return "".join(character if character.isprintable() else "�" for character in text)


def _call(expectation: str | Mapping[str, Any]) -> str:
    """An expectation as Great Expectations names it: a text, or its type and kwargs."""
    if isinstance(expectation, str):
        return line(expectation)
    given = ", ".join(f"{name}={value!r}" for name, value in expectation["kwargs"].items())
    return line(f"{expectation['type']}({given})")


def _words(name: str) -> str:
    return line(name.replace("_", " "))


def _series(names: Sequence[str]) -> str:
    spoken = [_words(name) for name in names]
    return spoken[0] if len(spoken) == 1 else f"{', '.join(spoken[:-1])} and {spoken[-1]}"


def _bars(named: Iterable[tuple[str, int]], *, rest: int = 0) -> list[Bar]:
    listed = [*((name, count, False) for name, count in named)]
    longest = max((count for _, count, _ in listed), default=0) or 1
    others = [("others", rest, True)] if rest else []
    return [
        Bar(name, count, _size(count, longest), is_rest)
        for name, count, is_rest in (*listed, *others)
    ]


def _size(count: int, longest: int) -> int:
    """Whatever is there is seen, and nothing is longer than the page."""
    return min(max(round(1000 * count / longest), 8), 1000) if count else 0


def _ranked(
    counts: Mapping[str, int], *, limit: int = _LISTED, rest: int = 0, words: bool = False
) -> list[Bar]:
    """The `limit` largest counts; the others join `rest`."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ((_words(name) if words else name, count) for name, count in ranked[:limit])
    return _bars(named, rest=rest + sum(count for _, count in ranked[limit:]))


def _histograms(profile: Mapping[str, Any]) -> list[Histogram]:
    drawn = (
        ("words", "Words a caption", "words", "captions"),
        ("tokens", "Tokens a caption", "tokens", "captions"),
        ("captions_per_image", "Captions a picture", "captions", "pictures"),
        ("image_side", "Shorter side of a picture", "pixels", "pictures"),
        ("brightness", "Brightness of a picture", "of 255", "pictures"),
    )
    return [
        _histogram(profile[key], title=title, unit=unit, counted=counted)
        for key, title, unit, counted in drawn
        if profile[key] is not None
    ]


def _histogram(
    binned: Mapping[str, Sequence[int]], *, title: str, unit: str, counted: str
) -> Histogram:
    edges, counts = binned["edges"], binned["counts"]
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return Histogram(title, "none", unit, counted, [])
    total, below, middle = sum(counts), 0, filled[0]
    for place in filled:
        below += counts[place]
        if 2 * below >= total:
            middle = place
            break
    shown = range(filled[0], filled[-1] + 1)
    return Histogram(
        title=title,
        middle=f"median: {_bin(edges, middle)} {unit}",
        unit=unit,
        counted=counted,
        bars=_bars((_bin(edges, place), counts[place]) for place in shown),
    )


def _bin(edges: Sequence[int], place: int) -> str:
    if place + 1 == len(edges):
        return f"{edges[place]}+"
    last = edges[place + 1] - 1
    return str(last) if last == edges[place] else f"{edges[place]}–{last}"


def _lists(profile: Mapping[str, Any]) -> list[Bars]:
    vocabulary, labels = profile["vocabulary"], profile["labels"]
    about = " about" if vocabulary["distinct"] >= 65_536 else ""
    shapes = zip(ASPECTS, profile["aspect"]["counts"], strict=True)
    lists = [
        Bars(
            "Most frequent words",
            f"of{about} {vocabulary['distinct']:,} different ones, {vocabulary['total']:,} in all",
            _ranked(vocabulary["words"])[:_LISTED],
        ),
        Bars(
            "Labels",
            f"{labels['distinct']:,} different ones; {labels['none']:,} pairs have none",
            _ranked(labels["counts"], rest=labels["rest"]),
        ),
        Bars("Width to height", "pictures", _bars((name, n) for name, n in shapes if n)),
        Bars("Formats", "pictures", _ranked(profile["formats"])),
        Bars("The split that came with the data", "captions", _ranked(profile["splits"])),
    ]
    return [each for each in lists if each.bars]
