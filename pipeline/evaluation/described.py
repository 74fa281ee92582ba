"""What a general set says of itself, in files beside its images.

    set.yaml                                templates, classes, synonyms, split (SetFile)
    classnames.txt                          a class a line, in the order of labels 0, 1, …
    zeroshot_classification_templates.txt   a prompt a line, {c} for the class
    test/nshards.txt                        how many of 0.tar, 1.tar, … there are

The last three are those of CLIP_benchmark's data sets (`wds/…`); what set.yaml says goes before.
Needs no torch, so that the doctor can ask it too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline import mistakes
from pipeline.data.sources.batches import Source
from pipeline.data.sources.detect import open_source
from pipeline.errors import DataError
from pipeline.params import Columns, DataParams, PromptSet
from pipeline.sections import Section

TARGET = "target"
"""The name of the user's own test split among the sets."""

ANY = Columns(image="auto", caption="auto", label="auto", group=None, split="auto")

SET_FILE = "set.yaml"
CLASSES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
SHARDS = Path("test")
COUNT_FILE = SHARDS / "nshards.txt"

Names = Annotated[list[str], Field(min_length=1)]


class SetFile(Section):
    """`set.yaml`; each key may be left out."""

    templates: PromptSet | Names | None = None
    """In place of evaluate.templates."""
    classes: Names | dict[str, str] | None = None
    """Names of the labels 0, 1, …, or name by label. Images are told from all of them."""
    synonyms: dict[str, Names] | None = None
    """In place of evaluate.synonyms."""
    split: str | None = None
    """The part that counts, where a set has several; `test` where it has that one."""

    @field_validator("templates")
    @classmethod
    def _have_a_place(cls, found: str | list[str] | None) -> str | list[str] | None:
        for template in found if isinstance(found, list) else ():
            if template.count("{}") != 1:
                raise ValueError(f"template {template!r} needs exactly one {{}} for the class name")
        return found


class Described(NamedTuple):
    """What is known of a set before its rows are read; None: it does not say.

    Attributes:
        source: the folder that holds its rows.
        templates, synonyms: what its classes are asked for with.
        names: by label, in the order of the classes.
        split: the part that counts.
    """

    source: Path
    templates: str | list[str] | None
    names: dict[str, str] | None
    synonyms: Mapping[str, Sequence[str]] | None
    split: str | None


def folders(folder: Path) -> list[Path]:
    """The folders below `evaluate.general`, each a set; none is fine.

    Raises DataError for what is no folder of sets, and for a set that can't be one.
    """
    if not folder.is_dir():
        raise DataError(
            f"evaluate.general is {str(folder)!r}, which is not a folder: name one that holds a "
            "folder a set, or an empty one to measure no forgetting"
        )
    loose = [f for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith(".")]
    found = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    if loose:
        raise DataError(
            f"evaluate.general is {str(folder)!r}, which holds {loose[0].name} and seems to be a "
            "set itself: name the folder above it, in which each folder is a set"
        )
    for one in found:
        if one.name == TARGET:
            raise DataError(f"{one}: that name means your own test split; rename the set")
        if one.is_symlink():
            raise DataError(
                f"{one} is a link, which DVC does not follow, so no change of the set would be "
                "seen: move or copy the set there"
            )
    return found


def opened(folder: Path, *, template: str) -> tuple[Described, Source]:
    """What the set in `folder` says of itself, and how to read its rows.

    An image that has a class alone may get the `template` for its caption. Raises DataError when it
    can't be read.
    """
    said = read(folder)
    data = DataParams(
        source=str(said.source),
        format="auto",
        captions="auto",
        image_root=".",
        caption_template=template,
        columns=ANY,
    )
    try:
        source = open_source(data, needed=("image",))
    except DataError as error:
        raise DataError(
            f"the general set {folder.name}: {error}\n       If {folder.parent} is one set and "
            "not a folder of sets, name the folder above it in evaluate.general"
        ) from None
    return said, source


def read(folder: Path) -> Described:
    """What the set in `folder` says of itself.

    Raises DataError that names the file, and what in it is wrong.
    """
    said = _set_file(folder / SET_FILE)
    shards = (folder / COUNT_FILE).is_file()
    if shards:
        _count(folder)
    templates: str | list[str] | None = said.templates
    if templates is None and (folder / TEMPLATES_FILE).is_file():
        templates = _templates(folder / TEMPLATES_FILE)
    classes = said.classes
    if classes is None and (folder / CLASSES_FILE).is_file():
        classes = [line.strip() for line in _lines(folder / CLASSES_FILE)]
    if isinstance(classes, list):
        classes = {str(number): name for number, name in enumerate(classes)}
    return Described(
        folder / SHARDS if shards else folder,
        templates,
        classes,
        said.synonyms,
        said.split,
    )


def _set_file(file: Path) -> SetFile:
    if not file.is_file():
        return SetFile()
    try:
        content = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} is no mapping: it may hold {', '.join(SetFile.model_fields)}")
    try:
        return SetFile.model_validate(content)
    except ValidationError as error:
        raise DataError("\n       ".join(mistakes.told(file, error, SetFile))) from None


def _templates(file: Path) -> list[str]:
    """CLIP_benchmark writes {c} where we write {}."""
    found = [line.strip().replace("{c}", "{}") for line in _lines(file)]
    for number, template in enumerate(found, start=1):
        if template.count("{}") != 1:
            raise DataError(f"{file}, line {number}: {template!r} needs {{c}} once, for the class")
    return found


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error}") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{file} is empty: write a line each, or delete it")
    blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if blank is not None:
        raise DataError(f"{file}, line {blank} is blank: each line counts, so delete or fill it")
    return lines


def _count(folder: Path) -> None:
    """DataError unless the shards are those that nshards.txt counts."""
    text = (folder / COUNT_FILE).read_text(encoding="utf-8", errors="replace").strip()
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{folder / COUNT_FILE} says {text[:40]!r}, which is no number of shards")
    expected = {f"{number}.tar" for number in range(int(text))}
    there = {file.name for file in (folder / SHARDS).glob("*.tar")}
    for names, what in ((expected - there, "is missing"), (there - expected, "is one too many")):
        if names:
            raise DataError(
                f"{folder / SHARDS / min(names)} {what}: {COUNT_FILE} counts {text} shards, "
                f"0.tar to {int(text) - 1}.tar; fetch the set again, or mend the number"
            )
