"""How people tell a scene: a small grammar of orders, synonyms, and what is left unsaid."""

import random
from collections.abc import Callable

from samples.scenes.scene import Scene, lot
from samples.scenes.words import (
    BACKGROUND_PHRASES,
    COLOUR_SYNONYMS,
    COUNTS,
    MATERIAL_ADJECTIVES,
    MATERIAL_PHRASES,
    PLURALS,
    POSITION_PHRASES,
    SHAPE_SYNONYMS,
    SIZE_ADJECTIVES,
    SLICES,
    SliceName,
)

PLACE = 0.4
"""How often a caption tells the place, where its order allows it to be left out."""

SYNONYM = 0.12
"""How often a colour or a shape goes by another name."""

CAPTIONS_AN_IMAGE = (1, 2, 3, 4, 5)
CAPTION_WEIGHTS = (35, 30, 20, 10, 5)

Phrasing = Callable[[Scene, random.Random], str]


def tell(scene: Scene, *, world: SliceName) -> list[str]:
    """One to five different captions of a scene, in the phrasings of its slice."""
    draw = lot(scene.seed, "captions")
    wanted = draw.choices(CAPTIONS_AN_IMAGE, weights=CAPTION_WEIGHTS)[0]
    told: dict[str, str] = {}
    while len(told) < wanted:
        caption = one_caption(scene, draw, world=world)
        told.setdefault(caption.casefold().rstrip("."), caption)
    return list(told.values())


def one_caption(scene: Scene, draw: random.Random, *, world: SliceName) -> str:
    """One caption, written as a sentence or as a mere phrase."""
    text = PHRASINGS[draw.choice(SLICES[world].phrasings)](scene, draw)
    if draw.random() < 0.5:
        return text
    return text[0].upper() + text[1:] + "."


def _colour(scene: Scene, draw: random.Random) -> str:
    if draw.random() < SYNONYM:
        return draw.choice(COLOUR_SYNONYMS[scene.colour])
    return scene.colour


def _noun(scene: Scene, draw: random.Random) -> str:
    names = (scene.shape, PLURALS[scene.shape])
    if scene.shape in SHAPE_SYNONYMS and draw.random() < SYNONYM:
        names = SHAPE_SYNONYMS[scene.shape]
    return names[scene.count > 1]


def _counted(scene: Scene, words: str, draw: random.Random) -> str:
    """`words` with their article or number."""
    article = draw.choice(COUNTS[scene.count])
    if article == "a" and words[0] in "aeiou":
        article = "an"
    return f"{article} {words}"


def _adjectives(scene: Scene, draw: random.Random) -> list[str]:
    """Size, material and colour, of which all but the colour may go without saying."""
    size = draw.choice(SIZE_ADJECTIVES[scene.size]) if draw.random() < 0.35 else ""
    often = 0.1 if scene.material == "matte" else 0.35
    material = draw.choice(MATERIAL_ADJECTIVES[scene.material]) if draw.random() < often else ""
    return [word for word in (size, material, _colour(scene, draw)) if word]


def _thing(scene: Scene, draw: random.Random) -> str:
    """ "a small glossy red star" """
    return _counted(scene, " ".join([*_adjectives(scene, draw), _noun(scene, draw)]), draw)


def _place(scene: Scene, draw: random.Random) -> str:
    return draw.choice(BACKGROUND_PHRASES[scene.background])


def _maybe(words: str, draw: random.Random) -> str:
    return f" {words}" if draw.random() < PLACE else ""


def _where(scene: Scene, draw: random.Random) -> str:
    """ " on the left", or nothing where nobody would say."""
    often = 0.05 if scene.position == "centre" else 0.3
    return f" {draw.choice(POSITION_PHRASES[scene.position])}" if draw.random() < often else ""


def _plain(scene: Scene, draw: random.Random) -> str:
    return f"{_thing(scene, draw)}{_maybe(_place(scene, draw), draw)}{_where(scene, draw)}"


def _photo(scene: Scene, draw: random.Random) -> str:
    kind = draw.choice(("a photo of", "a close-up of", "a photograph of"))
    return f"{kind} {_plain(scene, draw)}"


def _picture(scene: Scene, draw: random.Random) -> str:
    kind = draw.choice(("a picture of", "this picture shows", "an image of"))
    return f"{kind} {_plain(scene, draw)}"


def _there_is(scene: Scene, draw: random.Random) -> str:
    verb = "there is" if scene.count == 1 else "there are"
    return f"{verb} {_thing(scene, draw)}{_where(scene, draw)}{_maybe(_place(scene, draw), draw)}"


def _name(scene: Scene, draw: random.Random) -> str:
    """Just "red star"."""
    return f"{_colour(scene, draw)} {_noun(scene, draw)}"


def _place_last(scene: Scene, draw: random.Random) -> str:
    return f"{_thing(scene, draw)}{_where(scene, draw)}, {_place(scene, draw)}"


def _place_first(scene: Scene, draw: random.Random) -> str:
    return f"{_place(scene, draw)}, {_thing(scene, draw)}{_where(scene, draw)}"


def _seen(scene: Scene, draw: random.Random) -> str:
    verb = draw.choice(("seen", "photographed", "placed"))
    return f"{_thing(scene, draw)}, {verb} {_place(scene, draw)}"


def _post(scene: Scene, draw: random.Random) -> str:
    """Colour and material after the noun: "a star in red, made of wood"."""
    size = draw.choice(SIZE_ADJECTIVES[scene.size])
    thing = _counted(scene, f"{size} {_noun(scene, draw)}".strip(), draw)
    material = f", {draw.choice(MATERIAL_PHRASES[scene.material])}" if draw.random() < 0.4 else ""
    return f"{thing} in {_colour(scene, draw)}{material}{_maybe(_place(scene, draw), draw)}"


def _tags(scene: Scene, draw: random.Random) -> str:
    """Catalogue style: "red star, wooden, small, on a beach"."""
    extras = [
        draw.choice(MATERIAL_ADJECTIVES[scene.material]),
        draw.choice(SIZE_ADJECTIVES[scene.size]),
        _place(scene, draw),
    ]
    kept = [word for word in extras if word and draw.random() < 0.4]
    return ", ".join([_name(scene, draw), *kept])


def _story(scene: Scene, draw: random.Random) -> str:
    start = draw.choice(("we found", "look at", "somebody left", "I saw"))
    return f"{start} {_thing(scene, draw)}{_maybe(_place(scene, draw), draw)}"


PHRASINGS: dict[str, Phrasing] = {
    "plain": _plain,
    "photo": _photo,
    "picture": _picture,
    "there_is": _there_is,
    "name": _name,
    "place_last": _place_last,
    "place_first": _place_first,
    "seen": _seen,
    "post": _post,
    "tags": _tags,
    "story": _story,
}
