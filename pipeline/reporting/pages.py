"""The templates of our pages and their filters."""

import json
import math
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.reporting import comparison
from pipeline.reporting.svg import printable

TEMPLATES = Path(__file__).parent / "templates"

_LINE_CHARS = 160


def environment() -> Environment:
    """The templates of our pages, with their filters; whatever they print is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": comparison.percent,
        "points": comparison.points,
        "interval": lambda found: comparison.interval(found.low, found.high),
        "keep": _keep_together,
        "line": lambda text: printable(text, _LINE_CHARS),
        "plain": _plain,
        "figure": lambda value: "–" if value is None else _figure(value),
        "number": lambda value: "–" if math.isnan(value) else f"{value:.4g}",
    }
    return environment


def _figure(value: float) -> str:
    """A count in full; a share or a distance to three digits."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def _plain(value: Any) -> str:
    """A setting as params.yaml would show it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _keep_together(text: str) -> str:
    """Numbers are parted at the end of a line neither from their units nor within an interval."""
    return re.sub(r" (?=%|points|places?\b|= \d)|(?<= =) |(?<=\d,) (?=[−\d])", "\u00a0", text)
