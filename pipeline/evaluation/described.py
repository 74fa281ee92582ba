"""What a general set says of itself, in files beside its images.

    set.yaml                                templates, classes, synonyms, split, captions (SetFile)
    classnames.txt                          a class a line, in the order of labels 0, 1, …
    zeroshot_classification_templates.txt   a prompt a line, {c} for the class
    dataset_type.txt                        whether images have several classes, which is refused
    test/nshards.txt                        how many of 0.tar, 1.tar, … there are

All but the first are those of CLIP_benchmark's data sets (`wds/…`, build_wds_dataset in
clip_benchmark/datasets/builder.py, 1.6.2); what set.yaml says goes before.
Needs no torch, so that the doctor can ask it too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline import mistakes
from pipeline.data.sources.batches import Source
from pipeline.data.sources.detect import open_source
from pipeline.data.sources.rows import SPLIT_NAMES, is_image, is_unread
from pipeline.errors import DataError
from pipeline.params import Columns, DataParams, PromptSet
from pipeline.sections import Section

TARGET = "target"
"""The name of the user's own test split among the sets."""

ANY = Columns(image="auto", caption="auto", label="auto", group=None, split="auto")

ROWS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".tar", ".tar.gz", ".tgz", ".arrow")
"""Files that hold rows."""

SET_FILE = "set.yaml"
CLASSES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
TYPE_FILE = "dataset_type.txt"
COUNT_FILE = "nshards.txt"
TEST = "test"
FILES = (SET_FILE, CLASSES_FILE, TEMPLATES_FILE, TYPE_FILE, COUNT_FILE)

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
    """The part that counts, where a set has several; else its `test`, its `val`, or all."""
    captions: Literal["own", "none"] | None = None
    """none: it is not searched. own: it is, even where captions are no more than classes."""

    @field_validator("classes", mode="before")
    @classmethod
    def _numbers_as_written(cls, found: Any) -> Any:
        """YAML reads 0 as a number."""
        if isinstance(found, list):
            return [_written(name) for name in found]
        if isinstance(found, dict):
            return {_written(label): _written(name) for label, name in found.items()}
        return found

    @field_validator("templates")
    @classmethod
    def _have_a_place(cls, found: str | list[str] | None) -> str | list[str] | None:
        for template in found if isinstance(found, list) else ():
            if template.count("{}") != 1:
                raise ValueError(f"template {template!r} needs exactly one {{}} for the class name")
        return found


def _written(value: Any) -> Any:
    return str(value) if type(value) is int else value


class Described(NamedTuple):
    """What is known of a set before its rows are read; None: it does not say.

    Attributes:
        folder: the set's.
        source: the folder that holds its rows: that, or of a set of numbered shards its part.
        templates, synonyms: what its classes are asked for with.
        names: by label, in the order of the classes.
        split: the part that counts, of those in `source`.
        captions: whether they are its own (SetFile).
    """

    folder: Path
    source: Path
    templates: str | list[str] | None
    names: dict[str, str] | None
    synonyms: Mapping[str, Sequence[str]] | None
    split: str | None
    captions: Literal["own", "none"] | None


def folders(folder: Path) -> list[Path]:
    """The folder of each set below `folder`; DataError where they can't be that."""
    if not folder.is_dir():
        raise DataError(
            f"evaluate.general is {str(folder)!r}, which is not a folder: name one that holds a "
            "folder a set, or an empty one to measure no forgetting"
        )
    below = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    found = [entry for entry in below if entry.is_dir()]
    names = [entry.name for entry in below if entry.is_file() and _is_of_a_set(entry.name)]
    if not names and found and all(entry.name.lower() in SPLIT_NAMES for entry in found):
        names = [f"{entry.name}/" for entry in found]
    if names:
        raise DataError(
            f"evaluate.general is {str(folder)!r}, which holds {names[0]} and seems to be a "
            "set itself: name the folder above it, in which each folder is a set"
        )
    for entry in found:
        if entry.name == TARGET:
            raise DataError(f"{entry}: that name means your own test split; rename the set")
        if entry.is_symlink():
            raise DataError(
                f"{entry} is a link, which DVC does not follow, so no change of the set would be "
                "seen: move or copy the set there"
            )
    return found


def _is_of_a_set(name: str) -> bool:
    """Whether a file makes the folder that it lies in a set; a README or pets.dvc does not."""
    known = is_image(name) or is_unread(name) or name in FILES
    return known or name.lower().endswith(ROWS)


def opened(folder: Path, *, template: str) -> tuple[Described, Source]:
    """What the set in `folder` says of itself, and how to read it, by its first rows."""
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
        return said, open_source(data, needed=("image",))
    except DataError as error:
        text = f"the general set {folder.name}: {error}"
        names = [file.name for file in folder.iterdir()]
        if any(map(is_image, names)) and not any(name.lower().endswith(ROWS) for name in names):
            text = (
                f"{folder} holds images and no captions, as a folder of one class does: if "
                f"{folder.parent} is one set, name the folder above it in evaluate.general"
            )
        elif "data." in str(error):
            text += (
                "\n       These keys are of your own data: in a general set name columns and files "
                "as they are known"
            )
        raise DataError(text) from None


def read(folder: Path) -> Described:
    """What the set in `folder` says of itself.

    Raises DataError that names the file, and what in it is wrong.
    """
    said = _set_file(folder / SET_FILE)
    _require_one_class_an_image(folder / TYPE_FILE)
    part = folder / (said.split or TEST)
    sharded = (part / COUNT_FILE).is_file()
    if sharded:
        _count(part)
    templates: str | list[str] | None = said.templates
    if templates is None and (folder / TEMPLATES_FILE).is_file():
        templates = _templates(folder / TEMPLATES_FILE)
    classes = said.classes
    if classes is None and (folder / CLASSES_FILE).is_file():
        classes = [line.strip() for line in _lines(folder / CLASSES_FILE)]
    if isinstance(classes, list):
        classes = {str(number): name for number, name in enumerate(classes)}
    split = None if said.split is None else SPLIT_NAMES.get(said.split.lower(), said.split)
    return Described(
        folder=folder,
        source=part if sharded else folder,
        templates=templates,
        names=classes,
        synonyms=said.synonyms,
        split=None if sharded else split,
        captions=said.captions,
    )


def _require_one_class_an_image(file: Path) -> None:
    if file.is_file() and _lines(file)[0].strip().lower() == "multilabel":
        raise DataError(
            f"{file} says multilabel: an image with several classes has no right answer to be told "
            "from wrong ones by accuracy; remove the set"
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


def _count(part: Path) -> None:
    """DataError unless the shards are those that nshards.txt counts."""
    file = part / COUNT_FILE
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise DataError(f"{file} says {text[:40]!r}, which is no number of shards")
    count = int(text)
    there = {tar.name for tar in part.glob("*.tar")}
    missing = next((f"{n}.tar" for n in range(count) if f"{n}.tar" not in there), None)
    beyond = there - {f"{number}.tar" for number in range(min(count, len(there)))}
    wrong = (
        f"{missing} is missing" if missing else f"{min(beyond)} is one too many" if beyond else None
    )
    if wrong is not None:
        raise DataError(
            f"{part}: {wrong}: {COUNT_FILE} counts {count} shards, 0.tar to {count - 1}.tar; fetch "
            "the set again, or mend the number"
        )
