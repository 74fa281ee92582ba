"""Captions as they come: a clean one → what stands in the file, and what a cleaner should leave.

Where the two differ only by what was planted, a cleaner can be scored word for word.
"""

import html
import random
from collections.abc import Callable
from typing import NamedTuple

from samples.scenes.captions import one_caption
from samples.scenes.scene import Scene

LONG_WORDS = 80
"""A word is a token at least, and a model's context holds 77 with its two marks."""


class Dirty(NamedTuple):
    """`text` stands in the file; `clean` is what should be left of it."""

    text: str
    clean: str


Dirt = Callable[[str, Scene, random.Random], Dirty]


def _empty(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    return Dirty(draw.choice(("", " ", "   ")), "")


def _entities(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    text = draw.choice(
        (
            f"{caption.rstrip('.')} &amp; nothing else",
            f"it&#39;s {caption}",
            f"{caption.rstrip('.')} at the caf&eacute;",
            caption.replace(" ", "&nbsp;", 1),
        )
    )
    return Dirty(text, html.unescape(text).replace("\xa0", " "))


def _tags(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    first, _, rest = caption.partition(" ")
    number = draw.randint(1, 9999)
    texts = (
        f"<p>{caption}</p>",
        f"<b>{first}</b> {rest}",
        f'<span class="title">{caption}</span>',
        f'<a href="https://example.com/item/{number}">{caption}</a>',
        f"{caption}<br/>",
    )
    return Dirty(draw.choice(texts), caption)


def _mojibake(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    """UTF-8 read as Windows-1252: "cafÃ©"."""
    ends = (" at the café", " in crème light", " – naïve art", " at the soirée … très joli")
    clean = caption.rstrip(".") + draw.choice(ends)
    return Dirty(clean.encode("utf-8").decode("cp1252"), clean)


def _url(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    number = draw.randint(1, 9999)
    urls = (
        f"https://www.example.com/pictures/{number}.html",
        f"http://example.org/item?id={number}&ref=feed",
        f"www.example.net/shop/{number}",
    )
    url = draw.choice(urls)
    return Dirty(f"{caption} {url}" if draw.random() < 0.8 else f"{url} {caption}", caption)


def _email(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    name = draw.choice(("studio", "jo.miller", "sales", "pictures"))
    return Dirty(f"{caption} {name}@{draw.choice(('example.com', 'mail.example.org'))}", caption)


def _hashtags(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    tags = draw.sample(
        (f"#{scene.shape}", f"#{scene.colour}", "#art", "#picoftheday", "#shapes"), 3
    )
    return Dirty(" ".join([caption, *tags[: draw.randint(1, 3)]]), caption)


def _boilerplate(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    phrase = draw.choice(("stock photo, click to enlarge", "Stock photo, click to enlarge"))
    return Dirty(f"{caption} {phrase}", caption)


def _long(caption: str, scene: Scene, draw: random.Random) -> Dirty:
    """The scene told over and over; a cleaner leaves it, the model cuts it."""
    text = caption.rstrip(".")
    while len(text.split()) < LONG_WORDS:
        text += ", and again " + one_caption(scene, draw, world="sample").rstrip(".")
    return Dirty(text, text)


DIRT: dict[str, Dirt] = {
    "empty_caption": _empty,
    "html_entities": _entities,
    "html_tags": _tags,
    "mojibake": _mojibake,
    "url": _url,
    "email": _email,
    "hashtags": _hashtags,
    "boilerplate": _boilerplate,
    "long_caption": _long,
}
