"""What a search found, for the terminal and as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.clip.search import Hit
from pipeline.data.pictures import Unread
from pipeline.data.places import Place, places_of
from pipeline.errors import DataError
from pipeline.reporting.pages import environment
from pipeline.reporting.svg import printable
from pipeline.reporting.thumbnails import thumbnail

_CAPTION_CHARS = 100
_NAME_CHARS = 60
_SHOWN = 5
"""Files passed over that are named."""


class Found(NamedTuple):
    """A picture that was found, one of its captions, and its split; both may be empty."""

    rank: int
    cosine: float
    image: str
    caption: str
    split: str
    picture: str | None


def describe(
    hits: Sequence[Hit], pairs: pd.DataFrame, *, source: Path, packed: Path, pictures: bool
) -> list[Found]:
    """Name, caption and (where asked) thumbnail of each hit, by the pairs of the clean stage.

    Raises DataError for a hit of which there is no pair: cleaning ran after embedding.
    """
    wanted = pairs[pairs["image_id"].isin([hit.image_id for hit in hits])]
    if len({hit.image_id for hit in hits}) > wanted["image_id"].nunique():
        raise DataError(
            "the embeddings hold pictures that are not in the clean data: run `dvc repro embed`"
        )
    places = places_of(wanted, source=source, packed=packed)
    first = wanted.drop_duplicates("image_id").set_index("image_id")
    said = {name: first[name].to_dict() for name in ("image", "caption", "split")}
    return [
        Found(
            rank,
            hit.cosine,
            said["image"][hit.image_id],
            said["caption"][hit.image_id],
            said["split"][hit.image_id],
            thumbnail(places.get(hit.image_id)) if pictures else None,
        )
        for rank, hit in enumerate(hits, start=1)
    ]


def describe_files(hits: Sequence[Hit], folder: Path) -> list[Found]:
    """Name and thumbnail of each hit, whose id is its path from `folder`."""
    return [
        Found(rank, hit.cosine, hit.image_id, "", "", thumbnail(Place(folder / hit.image_id)))
        for rank, hit in enumerate(hits, start=1)
    ]


def passed_over(unread: Sequence[Unread], *, pictures: int) -> str:
    """How many files gave no picture, and of the first ones why; empty where all did."""
    if not unread:
        return ""
    lines = [f"  {printable(f'{one.name}: {one.why}', 160)}" for one in unread[:_SHOWN]]
    if len(unread) > _SHOWN:
        lines.append(f"  and {len(unread) - _SHOWN:,} more")
    count = f"{len(unread):,} of {pictures + len(unread):,} files gave no picture:"
    return "\n".join([count, *lines])


def as_text(found: Sequence[Found]) -> str:
    """A line a picture: rank, cosine, name, caption; no caption can steer the terminal."""
    width = max((len(printable(one.image, _NAME_CHARS)) for one in found), default=0)
    lines = (
        f"{one.rank:>3}  {one.cosine:.3f}  {printable(one.image, _NAME_CHARS):<{width}}  "
        f"{printable(one.caption, _CAPTION_CHARS)}"
        for one in found
    )
    return "\n".join(line.rstrip() for line in lines)


def as_page(query: str, found: Sequence[Found], *, model: str) -> str:
    """A page that holds the pictures and asks nothing of the network; all text is escaped.

    `model` says whose embeddings they are.
    """
    page = environment().get_template("search.html.j2")
    return page.render(query=query, found=found, model=model)
