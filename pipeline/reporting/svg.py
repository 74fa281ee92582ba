"""A matplotlib figure as inline SVG: the page's own colours and font, the same bytes every time.

Matplotlib writes fixed colours, and a page has a light and a dark scheme. So figures are drawn in
the ink names below, each a colour that nothing else uses, and every one is replaced by the CSS
variable of the same name.
"""

import io
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, MUTED, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
BASE, FINETUNED, LOSS = "#050505", "#060606", "#070707"
KINDS = ("#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d")
"""Colours that only tell things apart."""

NAME_CHARS = 18
"""Of a name in a chart."""

PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.0f} %")
"""Shares on an axis."""

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PAPER: "var(--paper)",
    BASE: "var(--base)",
    FINETUNED: "var(--accent)",
    LOSS: "var(--loss)",
    **{colour: f"var(--kind-{i})" for i, colour in enumerate(KINDS, start=1)},
}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: it is read aloud, found, and set in the page's font
    "svg.hashsalt": "cliptune",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it measures alike on every machine
    "font.size": 11,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "legend.frameon": False,
}

_ON_WHITE = {
    "--ink": "#16191d",
    "--muted": "#59626d",
    "--line": "#dfe3e8",
    "--paper": "#ffffff",
    "--base": "#7d8793",
    "--accent": "#1463c4",
    "--loss": "#b8400f",
    "--kind-1": "#1463c4",
    "--kind-2": "#c8650a",
    "--kind-3": "#24824a",
    "--kind-4": "#a82c84",
    "--kind-5": "#7457cc",
    "--kind-6": "#0b7f8b",
}
"""The page's light colours (templates/report.css), for a chart that stands alone."""

_RIM = 16
"""Pixels around it."""

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Chart:
    """An inline SVG and its description for whoever can't see it."""

    svg: Markup
    title: str
    text: str


def standalone(chart: Chart) -> str:
    """The chart as an SVG file: dark on white, whatever shows it."""
    root = ET.fromstring(chart.svg)  # noqa: S314  (made above)
    for element in root.iter():
        for key, value in element.attrib.items():
            for variable, colour in _ON_WHITE.items():
                value = value.replace(f"var({variable})", colour)  # noqa: PLW2901
            element.set(key, value)
    *_, width, height = (float(number) for number in root.attrib["viewBox"].split())
    # Labels at the ends of an axis stick out, which a page shows and a file would cut.
    box = (f"{-_RIM:g}", f"{-_RIM:g}", f"{width + 2 * _RIM:g}", f"{height + 2 * _RIM:g}")
    area = dict(zip(("x", "y", "width", "height"), box, strict=True))
    title = ET.Element("title")
    title.text = chart.title
    ground = ET.Element("rect", {**area, "fill": _ON_WHITE["--paper"]})
    root[:0] = [title, ground]
    del root.attrib["aria-hidden"]
    root.set("xmlns", _SVG.strip("{}"))
    root.set("viewBox", " ".join(box))
    root.set("width", area["width"])
    root.set("height", area["height"])
    return ET.tostring(root, encoding="unicode") + "\n"


def chart(
    draw: Callable[[Axes], None],
    *,
    name: str,
    size: tuple[float, float],
    margins: tuple[float, ...],
) -> Markup:
    """`draw` on one axes, as an `<svg>` for an HTML page, its texts escaped.

    `size` is width and height, `margins` is left, bottom, right and top, all in CSS pixels. `name`
    goes before each id in the SVG, so that charts on one page don't take each other's.
    """
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser draws the text: a glyph that matplotlib's own font lacks is no loss.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        width, height = size
        left, bottom, right, top = margins
        figure = Figure(figsize=(width / 72, height / 72))
        box = (left / width, bottom / height)
        inner = ((width - left - right) / width, (height - bottom - top) / height)
        draw(figure.add_axes((*box, *inner)))
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue(), name)


def printable(text: str, limit: int) -> str:
    """At most `limit` characters of `text` on one line, without what XML can't hold."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _inline(source: bytes, name: str) -> Markup:
    """Matplotlib's SVG document as an element of a page: no metadata, no styles that leak."""
    root = ET.fromstring(source)  # noqa: S314  (matplotlib wrote it)
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{_SVG}style" or child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {
            key.replace(_HREF, "href"): _attribute(key, value, name)
            for key, value in element.attrib.items()
            if key != "id" or element.tag != "g"  # nothing refers to a group
        }
        element.text = element.text if element.tag == "text" else None
        element.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "aria-hidden": "true"}
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704  (tostring escapes)


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key in (_HREF, "clip-path"):
        return value.replace("#", f"#{name}-")
    if key == "style":
        for colour, variable in _VARIABLES.items():
            value = value.replace(colour, variable)
    return value
