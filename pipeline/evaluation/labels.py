"""Labels of a general set as the names of its classes, and captions that are no more than these."""

from collections.abc import Mapping

import pandas as pd

from pipeline.errors import DataError
from pipeline.evaluation import prompts

NO_CAPTIONS = "its images have classes and no captions"
OF_CLASSES = "its captions are its classes, in one sentence for all"
NUMBERS = "its labels are numbers, which say nothing to a model, and nothing names their classes"


def named(labels: pd.Series, names: Mapping[str, str], *, where: pd.Series) -> pd.Series:
    """Labels as the names of their classes; what is a name already stays.

    A label is looked up as it is written, else as a number is counted (`007` is 7), else with
    spaces for `_` and `-`, as class folders are read. `where`: a row's file and number.
    Raises DataError for the first that is no label of the set.
    """
    known = {
        **{name: name for name in names.values()},
        **{_spaced(label): name for label, name in names.items()},
        **names,
    }
    looked_up = {label: _known(label, known) for label in labels.dropna().unique()}
    unknown = labels.map(lambda label: label in looked_up and looked_up[label] is None)
    if unknown.any():
        labels_known = list(names)
        raise DataError(
            f"{where[unknown].iloc[0]} has the label {labels[unknown].iloc[0]!r}, and the set "
            f"names {len(names)} classes, {labels_known[0]!r} to {labels_known[-1]!r}: mend the "
            "label, or give it a name in set.yaml, as in classes: {label: name}"
        )
    return labels.map(looked_up)


def _known(label: str, known: Mapping[str, str]) -> str | None:
    return next(
        (known[way] for way in (label, _plain(label), _spaced(label)) if way in known), None
    )


def _plain(label: str) -> str:
    """A number as it is counted: `007`, `7.0` are 7."""
    whole = label.removesuffix(".0")
    return str(int(whole)) if _is_number(whole) else label


def _spaced(label: str) -> str:
    return label.replace("_", " ").replace("-", " ").strip()


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()


def are_numbers(labels: pd.Series) -> bool:
    """Whether all labels that are there are whole numbers."""
    there = labels.dropna().unique()
    return len(there) > 0 and all(_is_number(str(label).removesuffix(".0")) for label in there)


def are_captions(captions: pd.Series, labels: pd.Series) -> bool:
    """Whether each caption is its image's class in a sentence that all share: `a photo of a {}`.

    Case, space and underscores aside. One class alone tells nothing of the kind.
    """
    if labels.isna().any() or labels.nunique() < 2:
        return False
    keys = {label: prompts.name_key(label) for label in labels.unique()}
    sentences: set[str] = set()
    for caption, label in zip(captions, labels, strict=True):
        around = prompts.name_key(caption).split(keys[label])
        if len(around) != 2:
            return False
        sentences.add("{}".join(around))
        if len(sentences) > 1:
            return False
    return True
