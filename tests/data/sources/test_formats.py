"""Every format gives the same pairs."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.places import Place
from pipeline.data.sources.batches import Batch, Source
from pipeline.data.sources.detect import open_source
from pipeline.errors import ConfigError, DataError
from pipeline.params import Columns, DataParams
from tests.drawing import draw

AUTO = Columns(image="auto", caption="auto", label="auto", group=None, split="auto")
CAPTIONS = {"a": ["a red star, big"], "b": ['a "blue" disc', "ein großer Stern ★"]}
LABELS = {"a": "star", "b": "disc"}


def params(folder: Path, **changes: object) -> DataParams:
    values = {
        "source": str(folder), "format": "auto", "captions": "auto", "image_root": ".",
        "caption_template": "a photo of a {}.", "columns": AUTO, **changes,
    }  # fmt: skip
    return DataParams(**values)  # type: ignore[arg-type]


def read(folder: Path, **changes: object) -> tuple[Source, Batch]:
    source = open_source(params(folder, **changes))
    batches = list(source.batches())
    return source, Batch(*(pd.concat([b[i] for b in batches], ignore_index=True) for i in range(2)))


def picture(name: str) -> bytes:
    pixels = np.random.default_rng(ord(name)).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def pictures(folder: Path) -> None:
    for name in CAPTIONS:
        (folder / f"{name}.jpg").write_bytes(picture(name))


def one_a_row() -> list[dict[str, object]]:
    return [
        {"image": f"{name}.jpg", "caption": text, "label": LABELS[name]}
        for name, texts in CAPTIONS.items()
        for text in texts
    ]


def lists() -> list[dict[str, object]]:
    return [
        {"image": f"{name}.jpg", "captions": texts, "label": LABELS[name]}
        for name, texts in CAPTIONS.items()
    ]


def csv(folder: Path) -> None:
    pictures(folder)
    pd.DataFrame(one_a_row()).to_csv(folder / "c.csv", index=False)


def csv_of_lists(folder: Path) -> None:
    pictures(folder)
    rows = [{**row, "captions": json.dumps(row["captions"])} for row in lists()]
    pd.DataFrame(rows).to_csv(folder / "c.csv", index=False)


def utf16(folder: Path) -> None:
    pictures(folder)
    pd.DataFrame(one_a_row()).to_csv(folder / "c.tsv", index=False, sep="\t", encoding="utf-16")


def jsonl(folder: Path) -> None:
    pictures(folder)
    (folder / "c.jsonl").write_text("\n".join(json.dumps(row) for row in lists()))


def parquet(folder: Path) -> None:
    pictures(folder)
    pq.write_table(pa.Table.from_pylist(lists()), folder / "c.parquet")


def coco(folder: Path) -> None:
    pictures(folder)
    (folder / "annotations").mkdir()
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate(CAPTIONS)]
    notes = [
        {"id": 9, "image_id": i, "caption": text}
        for i, texts in enumerate(CAPTIONS.values())
        for text in texts
    ]
    content = {"info": {}, "images": images, "annotations": notes}
    (folder / "annotations" / "captions.json").write_text(json.dumps(content))


def sidecar(folder: Path) -> None:
    pictures(folder)
    for name, texts in CAPTIONS.items():
        (folder / f"{name}.txt").write_text("\n".join(texts))


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))


def shards(folder: Path, suffix: str = "") -> None:
    mode = "w:gz" if suffix else "w"
    with tarfile.open(folder / f"00000.tar{suffix}", mode) as tar:  # type: ignore[call-overload]
        for name, texts in CAPTIONS.items():
            add(tar, f"{name}.jpg", picture(name))
            add(tar, f"{name}.txt", "\n".join(texts).encode())
            add(tar, f"{name}.json", json.dumps({"label": LABELS[name]}).encode())


def compressed(folder: Path) -> None:
    shards(folder, ".gz")


def hugging_face() -> pa.Table:
    rows = [
        {"image": {"bytes": picture(n), "path": f"{n}.jpg"}, "text": texts, "label": i}
        for i, (n, texts) in enumerate(CAPTIONS.items())
    ]
    features = {"label": {"names": list(LABELS.values()), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.Table.from_pylist(rows).replace_schema_metadata(metadata)


def parquet_images(folder: Path) -> None:
    (folder / "data").mkdir()
    pq.write_table(hugging_face(), folder / "data" / "train-00000-of-00001.parquet")


def save_to_disk(folder: Path) -> None:
    table = hugging_face()
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (folder / "dataset_info.json").write_text("{}")


FORMATS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "csv": ("table", csv), "csv_of_lists": ("table", csv_of_lists), "utf16": ("table", utf16),
    "jsonl": ("table", jsonl), "parquet": ("table", parquet), "coco": ("coco", coco),
    "sidecar": ("sidecar", sidecar), "shards": ("shards", shards),
    "compressed": ("shards", compressed), "parquet_images": ("parquet_images", parquet_images),
    "save_to_disk": ("save_to_disk", save_to_disk),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    kind, write = FORMATS[name]
    write(tmp_path)
    for wanted in ("auto", kind):
        source, (rows, malformed) = read(tmp_path, format=wanted)
        assert source.format == kind
        assert malformed.empty
        assert rows["caption"].tolist() == [text for texts in CAPTIONS.values() for text in texts]
        assert rows["pair"].tolist() == [1, 2, 3]
        contents = [content_of(tmp_path, row) for row in rows.itertuples()]
        assert contents == [picture("a"), picture("b"), picture("b")]
        if kind not in ("coco", "sidecar"):
            assert rows["label"].tolist() == ["star", "disc", "disc"]


def content_of(folder: Path, row: object) -> bytes:
    if row.content is not None:  # type: ignore[attr-defined]
        return row.content  # type: ignore[attr-defined, no-any-return]
    whole = pd.isna(row.offset)  # type: ignore[attr-defined]
    part = (None, None) if whole else (row.offset, row.length)  # type: ignore[attr-defined]
    return Place(folder / row.file, *part).read()  # type: ignore[attr-defined]


def test_class_folders_give_label_caption_and_split(tmp_path: Path) -> None:
    for path in ("train/red_star/1.jpg", "train/disc/2.png", "validation/disc/deep/3.jpg"):
        draw(tmp_path / path, (20, 90, 20), size=(40, 30))
    (tmp_path / "train" / "README.md").write_text("no image")
    source, (rows, _) = read(tmp_path)
    assert source.format == "class_folders"
    assert rows[["image", "caption", "label", "split"]].to_numpy().tolist() == [
        ["train/disc/2.png", "a photo of a disc.", "disc", "train"],
        ["train/red_star/1.jpg", "a photo of a red star.", "red star", "train"],
        ["validation/disc/deep/3.jpg", "a photo of a disc.", "disc", "val"],
    ]


def test_rows_that_do_not_parse_are_counted(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(
        b"image,caption,label\na.jpg,one,x\nb.jpg,two\nc.jpg,thr\xffee,x\nd.jpg,four,x\n"
    )
    _, (rows, bad) = read(tmp_path)
    assert rows["source_row"].tolist() == [1, 4]
    assert bad["source_row"].tolist() == [2, 3]
    assert bad["value"][0] == "2 fields, the header has 3"
    assert bad["value"][1].startswith("not UTF-8")


def test_a_truncated_shard_keeps_what_came_before(tmp_path: Path) -> None:
    shards(tmp_path)
    file = tmp_path / "00000.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(b"b.jpg") + 700])  # within the second sample's picture
    _, (rows, bad) = read(tmp_path)
    assert rows["caption"].tolist() == CAPTIONS["a"]
    assert bad["value"].str.contains("ends early|more than the file holds").all()
    assert len(bad) >= 1


def test_names_that_lead_out_of_an_archive_are_rejected(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "../../evil.jpg", picture("a"))
        add(tar, "/etc/evil.jpg", picture("a"))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add(tar, "good.jpg", picture("a"))
        add(tar, "good.txt", b"a good one")
    _, (rows, bad) = read(tmp_path)
    assert rows["image"].tolist() == ["0.tar!good.jpg"]
    assert len(bad) == 3


def test_a_guess_is_told_and_a_name_settles_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a.jpg"], "Title": ["one"], "text": ["two"], "split": ["fold1"]})
    frame.to_csv(tmp_path / "c.csv", index=False)
    source, (rows, _) = read(tmp_path)
    assert source.columns == {"image": "path", "caption": "text"}
    assert source.guessed == ["image", "caption"]
    assert source.notes == [
        "caption could also be Title",
        "column split is no split: it holds fold1",
    ]
    named = AUTO.model_copy(update={"caption": "Title"})
    assert read(tmp_path, columns=named)[1].rows["caption"].tolist() == ["one"]
    assert rows["split"].tolist() == [None]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"source": "nowhere"}, DataError, "data.source is 'nowhere', which is not a folder"),
        ({"captions": "b.csv"}, DataError, "data.captions is 'b.csv'"),
        ({"captions": "../b.csv"}, ConfigError, "leads out of"),
        ({"image_root": ".."}, ConfigError, "data.image_root is '..', which leads out of"),
        ({"image_root": "none"}, DataError, "holds no such folder"),
        ({"format": "coco"}, DataError, "data.format is 'coco', which needs a .json"),
        (
            {"columns": AUTO.model_copy(update={"caption": "text"})},
            DataError,
            "has no column 'text' (it has: caption, image, label): set data.columns.caption",
        ),
        (
            {"columns": AUTO.model_copy(update={"group": "product"})},
            DataError,
            "or to null if there is none",
        ),
    ],
)
def test_a_wrong_param_is_named(
    tmp_path: Path, changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    csv(tmp_path)
    with pytest.raises(kind) as error:
        read(tmp_path, **changes)
    assert message in str(error.value)


def test_several_captions_files_must_be_chosen_from(tmp_path: Path) -> None:
    csv(tmp_path)
    jsonl(tmp_path)
    with pytest.raises(DataError, match="several captions files"):
        read(tmp_path)
    assert len(read(tmp_path, captions="c.jsonl")[1].rows) == 3


@pytest.mark.parametrize("text", ["image,caption\n", ""])
def test_no_rows_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DataError, match="holds no rows"):
        read(tmp_path)


def test_an_empty_folder_says_what_is_taken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing that is known as images with captions"):
        read(tmp_path)


def test_batches_are_bounded_and_number_on(tmp_path: Path) -> None:
    rows = [f"{i}.jpg,caption {i}" for i in range(120_000)]
    (tmp_path / "c.csv").write_text("image,caption\n" + "\n".join(rows))
    batches = list(open_source(params(tmp_path)).batches())
    assert [len(batch.rows) for batch in batches] == [50_000, 50_000, 20_000]
    assert [batch.rows["pair"].iloc[0] for batch in batches] == [1, 50_001, 100_001]
