"""Which format a source has, by names, headers and first rows alone.

`auto` takes the first of these that is there: a folder of save_to_disk (state.json or
dataset_dict.json); a captions file (.csv, .tsv, .jsonl); tar files; Parquet, with images' bytes or
with paths; a COCO JSON; images with .txt files beside them; folders of images.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.data.images import inside
from pipeline.data.sources import coco, embedded, folders, shards, tables
from pipeline.data.sources.batches import Source
from pipeline.data.sources.columns import Chosen, choose
from pipeline.data.sources.listing import listed, misleads, once, require_files
from pipeline.data.sources.rows import (
    BadRow,
    Reader,
    Row,
    is_image,
    is_unread,
    split_name,
    split_names,
)
from pipeline.errors import ConfigError, DataError
from pipeline.params import DataParams

LOOKED_AT = 200
"""Rows read to settle columns."""

TEXTS = (".csv", ".tsv", ".jsonl")

SEEN = 5_000
"""Files looked at to tell folders of images from each other."""

NEEDS = {
    "table": "a captions file (.csv, .tsv, .jsonl, .parquet)",
    "coco": "a .json with `images` and captioned `annotations`, in the folder or its annotations/",
    "class_folders": "a folder of images for each class",
    "sidecar": "images with a .txt of the same name beside them",
    "shards": "tar files",
    "parquet_images": ".parquet files with a column of image bytes",
    "save_to_disk": "state.json or dataset_dict.json, as save_to_disk writes them",
}
AUTO = (
    "save_to_disk", "table", "shards", "parquet_images", "coco", "sidecar", "class_folders",
)  # fmt: skip
"""The order in which `auto` chooses."""

LEFT = "left"
"""Beside the files of each format: JSON as COCO's, but without captions."""

FIXED = {name: name for name in ("image", "caption", "label", "split")}
"""Readers that make their own rows call the columns so."""


def open_source(data: DataParams, *, needed: Sequence[str] = ("image", "caption")) -> Source:
    """Look at `data.source`, and return how to read it; columns that are `needed` must be there.

    Raises DataError when the source, a file or a column is missing, or there is no row, and for a
    file that is a link out of the source, or a broken one;
    ConfigError when `data.captions` or `data.image_root` lead out of the source.
    """
    folder = Path(data.source)
    if not folder.is_dir():
        raise DataError(
            f"data.source is {data.source!r}, which is not a folder: set it to the folder that "
            "holds your captions and images"
        )
    root = _image_root(folder, data.image_root)
    named = _named(folder, data.captions)
    found = _candidates(folder, named, root)
    kind, files = _chosen(found, folder, data.format, named)
    require_files(folder, [file for file in files if file != folder])
    if (kind, data.format) == ("class_folders", "auto"):
        folders.require_classes(folder, root)
    reader = _reader(kind, files, folder=folder, root=root, data=data)
    first, bad = _first(reader)
    where = str(files[0]) if len(files) == 1 else f"{folder} ({kind})"
    if not first and not bad:
        raise DataError(f"{where} holds no rows: there is nothing to train on")
    present = list(dict.fromkeys(name for row in first for name in row if name != "__key__"))
    if kind in ("coco", "class_folders", "sidecar"):
        used = {field: name for field, name in FIXED.items() if _any(first, name)}
        chosen = Chosen({"image": "image", "caption": "caption"} | used, [], [])
    elif first:
        chosen = choose(data.columns, present, first, where=where, needed=needed)
        if kind in ("parquet_images", "save_to_disk") and data.columns.image == "auto":
            column = embedded.image_column(embedded.schema_of(files[0]))
            chosen.columns["image"] = column or chosen.columns["image"]
    else:
        chosen = Chosen(dict(FIXED), [], [])
    return Source(
        format=kind,
        folder=folder,
        files=files,
        columns=chosen.columns,
        guessed=chosen.guessed,
        notes=[*chosen.notes, *_notes(kind, files, folder=folder, root=root, left=found[LEFT])],
        image_root=root,
        reader=reader,
    )


def _reader(kind: str, files: list[Path], *, folder: Path, root: str, data: DataParams) -> Reader:
    readers: dict[str, Reader] = {
        "table": partial(tables.read_tables, files, folder=folder),
        "coco": partial(coco.read_coco, files, root=folder / root),
        "class_folders": partial(
            folders.read_class_folders, folder, root=root, template=data.caption_template
        ),
        "sidecar": partial(folders.read_sidecar, folder, root=root),
        "shards": partial(shards.read_shards, files, folder=folder),
        "parquet_images": partial(embedded.read_embedded, files, folder=folder),
        "save_to_disk": partial(embedded.read_embedded, files, folder=folder),
    }
    return readers[kind]


def _chosen(
    found: Mapping[str, list[Path]], folder: Path, wanted: str, named: Path | None
) -> tuple[str, list[Path]]:
    """The format and its files."""
    if wanted == "auto":
        for kind in AUTO:
            if found[kind]:
                return kind, _one_table(folder, kind, found[kind], named)
        raise DataError(
            f"{folder} holds nothing that is known as images with captions: it takes "
            + "; ".join(f"{kind}: {need}" for kind, need in NEEDS.items())
        )
    files = found[wanted]
    if not files:
        seen = [kind for kind in AUTO if found[kind]]
        raise DataError(
            f"data.format is {wanted!r}, which needs {NEEDS[wanted]}; {folder} holds "
            f"{'what looks like ' + ', '.join(seen) if seen else 'none of what is known'}: set "
            "data.format to that, or to auto"
        )
    return wanted, _one_table(folder, wanted, files, named)


def _candidates(folder: Path, named: Path | None, root: str) -> dict[str, list[Path]]:
    """Files of each format, and those left out; a link that misleads is not opened."""
    none: dict[str, list[Path]] = {kind: [] for kind in (*AUTO, LEFT)}
    if named is not None:
        if named.suffix.lower() == ".json":
            return none | _coco(folder, [named])
        with_bytes = embedded.is_parquet(named) and _has_images(named)
        return none | {"parquet_images" if with_bytes else "table": [named]}
    names = listed(folder, (*TEXTS, *shards.SUFFIXES, ".parquet", ".json"))
    top = [name for name in names if "/" not in name]
    saved = [folder / name for name in (embedded.STATE, embedded.PARTS) if name in top]
    require_files(folder, saved)
    texts = _ending(folder, top, TEXTS)
    tars = _ending(folder, once(folder, names), shards.SUFFIXES)
    parquets = [] if tars else _ending(folder, once(folder, names), (".parquet",))
    unknown = bool(parquets) and misleads(folder, _name(folder, parquets[0]))
    with_bytes = bool(parquets) and not unknown and _has_images(parquets[0])
    annotated = [name for name in names if name.rpartition("/")[0] in ("", "annotations")]
    images = _image_files(folder, root)
    beside = images and any(_has_text(folder / root, path) for path in images[:LOOKED_AT])
    return {
        **_coco(folder, _ending(folder, annotated, (".json",))),
        "save_to_disk": embedded.saved_files(folder) if saved else [],
        "table": texts or ([] if with_bytes else parquets),
        "shards": tars,
        "parquet_images": parquets if with_bytes or unknown else [],
        "sidecar": [folder] if beside else [],
        "class_folders": [folder] if any("/" in path for path in images) else [],
    }


def _coco(folder: Path, jsons: Sequence[Path]) -> dict[str, list[Path]]:
    """Of JSON files those of COCO captions, and those of COCO that are left out."""
    seen = {
        file: "captions" if misleads(folder, _name(folder, file)) else coco.look(file)
        for file in jsons
    }
    return {
        "coco": [file for file in jsons if seen[file] == "captions"],
        LEFT: [file for file in jsons if seen[file] == "no captions"],
    }


def _notes(
    kind: str, files: Sequence[Path], *, folder: Path, root: str, left: Sequence[Path]
) -> list[str]:
    """What the files' names decide, and which are left out."""
    notes = []
    if kind in ("table", "parquet_images", "save_to_disk", "coco"):
        parts = [part for part in split_names([_name(folder, file) for file in files]) if part]
        if parts:
            told = ", ".join(dict.fromkeys(parts))
            notes.append(f"files are named for a split ({told}): of rows without one it is theirs")
    if kind == "table":
        parted = {f: tables.delimiter_of(f) for f in files if f.suffix.lower() == ".csv"}
        notes += [f"{f.name} is parted by {by!r}" for f, by in parted.items() if by != ","]
    if kind == "coco":
        named = {file.name: coco.folder_of(file) for file in files}
        notes += [
            f"images of {name} that do not lie in {root} are looked for in {Path(root, below)}"
            for name, below in named.items()
            if below is not None and (folder / root / below).is_dir()
        ]
    if kind == "class_folders" and (beside := folders.left_alone(folder)):
        notes.append(f"not read, as captions come from the folders' names: {beside}")
    if left:
        names = ", ".join(file.name for file in left)
        notes.append(f"left out, as no annotation has a caption: {names}")
    return notes


def _name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()


def _one_table(folder: Path, kind: str, files: list[Path], named: Path | None) -> list[Path]:
    """Several captions files are one table only where they are shards or parts of it.

    Parts are files of one kind, each named for another part of the split: train.csv and test.csv.
    """
    if kind != "table" or named is not None or len(files) == 1:
        return files
    shardable = {f.suffix.lower() for f in files} in ({".parquet"}, {".jsonl"})
    if shardable and all(any(c.isdigit() for c in f.stem) for f in files):
        return files
    parts = {split_name(file.name) for file in files}
    if len({f.suffix.lower() for f in files}) == 1 and len(parts - {None}) == len(files):
        return files
    names = ", ".join(file.name for file in files)
    raise DataError(f"{folder} holds several captions files ({names}): name one in data.captions")


def _ending(folder: Path, names: list[str], suffixes: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in names if name.lower().endswith(suffixes)]


def _image_files(folder: Path, root: str) -> list[str]:
    """Images that are not read are among them, so that folders of those alone are told as such."""
    seen = islice(folders.walk(folder / root), SEEN)
    return [path for path in seen if is_image(path) or is_unread(path)]


def _has_text(root: Path, path: str) -> bool:
    return (root / path).with_suffix(".txt").is_file()


def _has_images(file: Path) -> bool:
    return embedded.image_column(embedded.schema_of(file)) is not None


def _named(folder: Path, name: str) -> Path | None:
    if name == "auto":
        return None
    file = inside(folder, name)
    if file is None:
        raise ConfigError(f"data.captions is {name!r}, which leads out of {folder}")
    if not file.is_file():
        raise DataError(f"data.captions is {name!r}, but {folder} holds no such file")
    if file.suffix.lower() not in (*tables.TABLES, ".json"):
        raise DataError(f"{file.name}: a captions file ends in {', '.join(tables.TABLES)}, .json")
    # A path from the root of the disk is one from the source too, which is how files are told.
    return folder / (file.relative_to(folder.resolve()) if Path(name).is_absolute() else name)


def _image_root(folder: Path, name: str) -> str:
    root = inside(folder, name)
    if root is None:
        raise ConfigError(
            f"data.image_root is {name!r}, which leads out of {folder}: DVC would not see those "
            "images change; set data.source to a folder that holds captions and images"
        )
    if not root.is_dir():
        raise DataError(f"data.image_root is {name!r}, but {folder} holds no such folder")
    return Path(name).as_posix()


def _first(reader: Reader) -> tuple[list[Row], int]:
    """The first rows that parse, and how many before them do not."""
    rows, bad = [], 0
    for row in islice(reader(), LOOKED_AT):
        if isinstance(row, BadRow):
            bad += 1
        else:
            rows.append(row)
    return rows, bad


def _any(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)
