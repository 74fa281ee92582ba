"""Searches with the first answers, as evaluate kept them, in the form in which the page shows them.

The table has a row an answer: set, direction (`text_to_image`, `image_to_text`), query, own, best,
rank, item, cosine, right. Of a text, `query` is the caption, and `item` and `own` are ids of
images; of an image it is the reverse. `best` is the rank of the first right answer, and `own` a
right answer, to be shown where none is among the first.
"""

from dataclasses import dataclass

import pandas as pd

from pipeline.data.places import Places
from pipeline.reporting.thumbnails import thumbnail

COLUMNS = ("set", "direction", "query", "own", "best", "rank", "item", "cosine", "right")
DIRECTIONS = {
    "text_to_image": "From a caption to pictures",
    "image_to_text": "From a picture to captions",
}


@dataclass(frozen=True)
class Answer:
    """A picture (text → image) or a caption (image → text)."""

    picture: str | None
    text: str | None
    cosine: float
    right: bool


@dataclass(frozen=True)
class Search:
    """A query: a caption in `text`, or a picture; `own` is a right answer, `best` its rank."""

    picture: str | None
    text: str | None
    own_picture: str | None
    own_text: str | None
    best: int
    answers: list[Answer]

    @property
    def found(self) -> bool:
        """Whether a right answer is among those shown."""
        return any(answer.right for answer in self.answers)


def searches(
    table: pd.DataFrame, places: Places, *, name: str
) -> dict[str, dict[str, list[Search]]]:
    """Of the set `name`, heading → `right` and `wrong` → searches; what has none is left out."""
    found: dict[str, dict[str, list[Search]]] = {}
    for direction, heading in DIRECTIONS.items():
        rows = table[(table["set"] == name) & (table["direction"] == direction)]
        made = [
            _search(group, places, of_text=direction == "text_to_image")
            for _, group in rows.groupby("query", sort=False)
        ]
        parts = {
            "right": [search for search in made if search.best == 1],
            "wrong": [search for search in made if search.best != 1],
        }
        if made:
            found[heading] = parts
    return found


def _search(rows: pd.DataFrame, places: Places, *, of_text: bool) -> Search:
    first = rows.iloc[0]
    answers = [
        Answer(
            picture=thumbnail(places.get(row["item"])) if of_text else None,
            text=None if of_text else row["item"],
            cosine=row["cosine"],
            right=bool(row["right"]),
        )
        for row in rows.sort_values("rank").to_dict("records")
    ]
    return Search(
        picture=None if of_text else thumbnail(places.get(first["query"])),
        text=first["query"] if of_text else None,
        own_picture=thumbnail(places.get(first["own"])) if of_text else None,
        own_text=None if of_text else first["own"],
        best=int(first["best"]),
        answers=answers,
    )
