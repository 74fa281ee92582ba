"""The copy of the page that a run keeps: it tells which run made it.

Commit, run and time vary while the result does not, so reports/index.html, which DVC hashes, holds
none of them, and has a place where they go.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup, escape

from pipeline.artifacts import new_folder, write_text

START, END = "<!-- this run -->", "<!-- end of this run -->"


def with_run(page: str, facts: Mapping[str, str]) -> str:
    """The page with `facts` in their place; a fact that is a link of http(s) becomes one.

    Raises ValueError for a page that has no such place, or more than one.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end) or START in rest or END in after:
        raise ValueError("not one place for the facts of a run in this page: was it made by us?")
    rows = Markup("").join(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(key, _value(value))
        for key, value in facts.items()
    )
    block = Markup('<h3>This run</h3>\n<dl class="facts">{}</dl>').format(rows)
    return f"{before}{block}{after}"


def copy_for_run(report: Path, to: Path, facts: Mapping[str, str]) -> Path:
    """The pages of the folder `report` in `to`, its index.html with the facts; returns `to`."""
    with new_folder(to) as part:
        for page in sorted(report.glob("*.html")):
            shutil.copyfile(page, part / page.name)
        index = report / "index.html"
        write_text(part / index.name, with_run(index.read_text(encoding="utf-8"), facts))
    return to


def _value(value: str) -> Markup:
    if value.startswith(("http://", "https://")):
        return Markup('<a href="{0}">{0}</a>').format(value)
    return Markup("<code>{}</code>").format(escape(value))
