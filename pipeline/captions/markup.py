"""HTML out of a caption: tags and comments dropped, entities decoded."""

import html
import re
from html.parser import HTMLParser

_TAG = re.compile(r"</?[a-zA-Z!?][^<>]*>")
_ENTITY = re.compile(
    r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]*);"
    r"|&(?:#[0-9]+|#[xX][0-9a-fA-F]+|amp|nbsp|lt|gt|quot)(?![\w;])"
)
_AMPERSAND = "\ufdd0"
"""Stands for & while tags are dropped, so that the parser leaves entities alone. Unicode reserves
it for use inside a program."""


def strip_html(caption: str) -> str:
    """Drop tags and comments, decode entities (also doubly escaped ones), until nothing changes.

    A name of an entity counts where a semicolon ends it (`AT&T`, `black&notes` stay); of the five
    commonest, and of numbers, it may be missing.
    """
    if "<" not in caption and "&" not in caption:
        return caption
    while True:
        plain = _ENTITY.sub(_decoded, _without_tags(caption))
        if plain == caption:
            return plain
        caption = plain


def _decoded(entity: re.Match[str]) -> str:
    return html.unescape(entity.group().removesuffix(";") + ";")


class _Text(HTMLParser):
    """Collects what is not markup; script and style are markup to the end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self._hidden += tag in ("script", "style")
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in ("script", "style")))
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _without_tags(caption: str) -> str:
    """Text outside of tags; a caption without any is left alone, `a < b` included."""
    if not _TAG.search(caption):
        return caption
    parser = _Text()
    parser.feed(caption.replace(_AMPERSAND, " ").replace("&", _AMPERSAND))
    parser.close()
    return "".join(parser.parts).replace(_AMPERSAND, "&")
