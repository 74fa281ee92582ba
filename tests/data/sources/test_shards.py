"""Members of a sample, and headers that claim too much."""

import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from test_formats import CAPTIONS, add, picture, read, shards

from pipeline.data.sources import tars
from pipeline.data.sources.rows import BadRow
from pipeline.data.sources.shards import read_shards


def written(folder: Path, members: dict[str, bytes], name: str = "0.tar") -> Path:
    with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as tar:
        for member, content in members.items():
            add(tar, member, content)
    return folder / name


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz"])
@pytest.mark.parametrize("order", [("a.jpg", "a.seg.png"), ("a.seg.png", "a.jpg")])
def test_a_mask_is_not_the_picture(tmp_path: Path, name: str, order: tuple[str, str]) -> None:
    contents = {"a.jpg": picture("a"), "a.seg.png": picture("b")}
    written(tmp_path, {m: contents[m] for m in order} | {"a.txt": b"one"}, name)
    _, (rows, bad) = read(tmp_path)
    assert rows[["image", "caption"]].to_numpy().tolist() == [[f"{name}!a.jpg", "one"]]
    assert bad.empty


def test_the_first_member_of_a_kind_wins_and_the_other_is_told(tmp_path: Path) -> None:
    members = {"a.jpg": picture("a"), "a.png": picture("b"), "a.txt": b"one", "a.TXT": b"two"}
    written(tmp_path, members)
    _, (rows, bad) = read(tmp_path)
    assert rows[["image", "caption"]].to_numpy().tolist() == [["0.tar!a.jpg", "one"]]
    assert bad["value"].tolist() == [
        "0.tar!a.png: a second image of its sample, after a.jpg",
        "0.tar!a.TXT: a second text of its sample, after a.txt",
    ]


@pytest.mark.parametrize("first", ["json", "txt"])
def test_a_text_counts_before_a_field(tmp_path: Path, first: str) -> None:
    texts = {"a.json": json.dumps({"caption": "field", "label": "disc"}).encode(), "a.txt": b"text"}
    ordered = dict(sorted(texts.items(), reverse=first == "txt"))
    written(tmp_path, {"a.jpg": picture("a"), **ordered})
    _, (rows, _) = read(tmp_path)
    assert rows[["caption", "label"]].to_numpy().tolist() == [["text", "disc"]]


def test_a_sample_without_an_image_that_is_read_is_told(tmp_path: Path) -> None:
    members = {
        "a.jpg": picture("a"), "a.txt": b"one", "b.heic": b"", "b.txt": b"two",
        "c.v2.jpg": picture("a"), "._a.jpg": b"", "d.mp4": b"",
    }  # fmt: skip
    written(tmp_path, members)
    _, (rows, bad) = read(tmp_path)
    assert rows["caption"].tolist() == ["one"]
    assert bad["value"].tolist() == [
        "0.tar!b.heic: .heic images are not read: convert them to JPEG or PNG",
        "0.tar!c.v2.jpg: not taken as an image, as its suffix has two dots: rename it",
    ]


@pytest.mark.parametrize(("suffix", "name"), [("", "0.TAR"), (".gz", "0.TAR.GZ"), (".gz", "0.TGZ")])
def test_the_case_of_a_suffix_is_no_matter(tmp_path: Path, suffix: str, name: str) -> None:
    shards(tmp_path, suffix)
    (tmp_path / f"00000.tar{suffix}").rename(tmp_path / name)
    _, (rows, bad) = read(tmp_path)
    assert rows["caption"].tolist() == [text for texts in CAPTIONS.values() for text in texts]
    assert bad.empty


def header(kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


KINDS = (*tars._LONG, *tars._PAX)


def archive(members: bytes) -> bytes:
    """A good sample, then `members`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        add(tar, "a.jpg", picture("a"))
        add(tar, "a.txt", b"one")
        end = tar.offset
    return file.getvalue()[:end] + members + bytes(1024)


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_of_100_mb_is_refused(tmp_path: Path, kind: bytes) -> None:
    size = 100_000_000
    with gzip.open(tmp_path / "0.tar.gz", "wb", compresslevel=1) as file:
        file.write(archive(header(kind, size))[:-1024])
        for _ in range(size // 1_000_000):
            file.write(bytes(1_000_000))
    tracemalloc.start()
    _, (rows, bad) = read(tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000
    assert rows["caption"].tolist() == ["one"]
    assert bad["value"].tolist() == [
        "0.tar.gz ends early: ReadError: an extended header of 100000000 bytes, more than 32768: "
        "pack the archive anew"
    ]


def test_names_of_some_length_are_read(tmp_path: Path) -> None:
    name = "n" * 200
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "0.tar", "w", format=form) as tar:
            add(tar, f"{name}.jpg", picture("a"))
            add(tar, f"{name}.txt", b"one")
        _, (rows, bad) = read(tmp_path)
        assert rows["image"].tolist() == [f"0.tar!{name}.jpg"]
        assert bad.empty


def pax(kind: bytes, key: str, value: str) -> bytes:
    record = f" {key}={value}\n".encode()
    record = str(len(record) + 5).zfill(5).encode() + record
    return header(kind, len(record)) + record.ljust(-(-len(record) // 512) * 512, b"\0")


def sized(size: bytes) -> bytes:
    """A header whose size field holds these twelve bytes."""
    block = bytearray(header(tarfile.REGTYPE, 0))
    block[124:136] = size
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
    return bytes(block)


MINUS = b"\xff" * 10 + b"\xfe\x00"  # -512: back to this header

ENDLESS = {
    "a negative size": sized(MINUS),
    "a negative size of an extended header": pax(tarfile.XHDTYPE, "size", "-1536")
    + header(tarfile.REGTYPE, 0),
    "global headers": b"".join(
        pax(tarfile.XGLTYPE, f"key{i}", "x" * 20_000) + header(tarfile.REGTYPE, 0) for i in range(5)
    ),
    "headers of headers": header(tarfile.GNUTYPE_LONGNAME, 0) * 3000,
    "a sparse map": header(tarfile.GNUTYPE_SPARSE, 0),
}


@pytest.mark.parametrize("case", ENDLESS)
@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz"])
@pytest.mark.timeout(30)
def test_headers_that_never_end_are_refused(tmp_path: Path, case: str, name: str) -> None:
    content = archive(ENDLESS[case])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    _, (rows, bad) = read(tmp_path)
    assert rows["caption"].tolist() == ["one"]
    assert bad["value"].str.contains("ends early").tolist() == [True]


def test_a_gzip_header_that_leads_into_noise_is_told(tmp_path: Path) -> None:
    """Its extra field is long enough to be decompressed; some versions of tarfile trip on it."""
    header = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x02\xff" + (5).to_bytes(2, "little")
    (tmp_path / "0.tar.gz").write_bytes(header + b"\xff" * 600)
    [row] = read_shards([tmp_path / "0.tar.gz"], folder=tmp_path)
    assert isinstance(row, BadRow)
    assert row.value.startswith("0.tar.gz ends early: ReadError: ")
