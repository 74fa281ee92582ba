"""What a class is called: its names, and the sentences around them."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.clip.model import prompt_sets
from pipeline.errors import DataError

PLAIN = "a photo of a {}."


def templates(asked: str | Sequence[str]) -> list[str]:
    """The templates that `evaluate.templates` means: a set of OpenCLIP's by name, or a list."""
    return prompt_sets()[asked] if isinstance(asked, str) else list(asked)


def caption_template(asked: str | Sequence[str]) -> str:
    """The template for an image that has a class and no caption: the first of a list.

    OpenCLIP's sets begin with a bad photo or none at all, so the plain one stands for them.
    """
    return PLAIN if isinstance(asked, str) else asked[0]


def recorded(
    asked: str | Sequence[str],
    classes: Sequence[str],
    synonyms: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """What a model was asked with, so that it can be asked again: a part of its record."""
    return {
        "templates": templates(asked),
        "classes": list(classes),
        "synonyms": {name: list(synonyms[name]) for name in classes if name in synonyms},
    }


def filled(templates: Sequence[str], names: Sequence[str]) -> list[str]:
    """Each name in each template."""
    return [template.replace("{}", name) for name in names for template in templates]


def name_key(name: str) -> str:
    """What two names share that a reader would call the same: case, space and underscores aside."""
    return " ".join(name.replace("_", " ").casefold().split())


def names(classes: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """All names of each class, its own first.

    Synonyms of what is no class here are left out: another set may have it. Raises DataError for
    two names that are equal but for case, space and underscores: an image could be of either.
    """
    found = [[name, *synonyms.get(name, ())] for name in classes]
    known: dict[str, str] = {}
    for class_, all_names in zip(classes, found, strict=True):
        for name in all_names:
            said = f"{name!r}" if name == class_ else f"{name!r} (a synonym of {class_!r})"
            other = known.setdefault(name_key(name), said)
            if other is not said:
                raise DataError(
                    f"the classes {other} and {said} are the same but for case, space or "
                    "underscores, so that no image could be told to be of one of them: give them "
                    "one name in the source, or mend evaluate.synonyms"
                )
    return found


def check_synonyms(synonyms: Mapping[str, Sequence[str]], classes: Iterable[Sequence[str]]) -> None:
    """DataError for synonyms of what is a class of no set; `classes` are those of each."""
    known = sorted({name for some in classes for name in some})
    for name in synonyms:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "write it as its label is written"
            raise DataError(
                f"evaluate.synonyms names {name!r}, which is no class of any set: {hint}"
            )
