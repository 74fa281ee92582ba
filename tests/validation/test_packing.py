import hashlib
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import read_json, sha256_of
from pipeline.data.places import Place
from pipeline.validation.digests import Digests
from pipeline.validation.packing import Packer

CONTENTS = [b"", b"a", b"b" * 511, b"c" * 512, b"d" * 513, bytes(5000), b"a", b"c" * 512]


def digest(content):
    return hashlib.sha256(content).hexdigest()


def pack(folder, *calls, **given):
    folder.mkdir()
    with Packer(folder, **given) as packer:
        return [place for contents in calls for place in packer.add(contents)]


def members(folder):
    """(file, name, offset, content) of all that a plain tar reader finds."""
    found = []
    for name in read_json(folder / "index.json")["files"]:
        with tarfile.open(folder / name) as tar:
            found += [(name, m.name, m.offset_data, tar.extractfile(m).read()) for m in tar]
    return found


def test_each_content_is_a_member_once_named_by_its_hash(tmp_path):
    places = pack(tmp_path / "tars", CONTENTS[:3], CONTENTS[3:])
    listed = members(tmp_path / "tars")
    assert [name for _, name, _, _ in listed] == [digest(content) for content in CONTENTS[:6]]
    assert [content for *_, content in listed] == CONTENTS[:6]
    assert read_json(tmp_path / "tars" / "index.json") == {
        "images": 6,
        "files": ["images-00000.tar"],
    }
    assert places[6:] == [places[1], places[3]]


def test_a_place_leads_to_the_bytes_and_is_aligned(tmp_path):
    places = pack(tmp_path / "tars", CONTENTS)
    read = [Place(tmp_path / "tars" / p.file, p.offset, p.length).read() for p in places]
    assert read == CONTENTS
    assert all(place.offset % 512 == 0 for place in places)


def test_what_was_added_can_be_read_before_the_end(tmp_path):
    with Packer(tmp_path) as packer:
        place = packer.add([b"early"])[0]
        assert Place(tmp_path / place.file, place.offset, place.length).read() == b"early"


def test_a_full_tar_is_followed_by_the_next(tmp_path):
    contents = [bytes([i]) * 1000 for i in range(5)]  # 512 + 1024 bytes each, 1024 at the end
    places = pack(tmp_path / "tars", contents, largest=2 * 1536 + 1024)
    assert [place.file for place in places] == [f"images-0000{i}.tar" for i in (0, 0, 1, 1, 2)]
    assert [content for *_, content in members(tmp_path / "tars")] == contents
    sizes = [file.stat().st_size for file in sorted((tmp_path / "tars").glob("*.tar"))]
    assert sizes == [4096, 4096, 2560]


def test_an_image_above_the_size_of_a_tar_has_one_of_its_own(tmp_path):
    contents = [b"small", bytes(9000), b"last"]
    places = pack(tmp_path / "tars", contents, largest=4096)
    assert len({place.file for place in places}) == 3
    assert [content for *_, content in members(tmp_path / "tars")] == contents


def test_nothing_packed_leaves_an_index(tmp_path):
    pack(tmp_path / "tars")
    assert [file.name for file in (tmp_path / "tars").iterdir()] == ["index.json"]
    assert read_json(tmp_path / "tars" / "index.json") == {"images": 0, "files": []}


def test_the_same_contents_make_the_same_bytes_however_they_come(tmp_path):
    pack(tmp_path / "one", CONTENTS)
    pack(tmp_path / "other", *([content] for content in CONTENTS))
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "other")


@given(
    batches=st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=12),
    recent=st.integers(1, 20),
)
def test_digests_keep_what_a_dict_keeps(batches, recent):
    kept, expected = Digests(recent=recent), {}
    for batch in batches:
        keys = [hashlib.sha256(bytes([i])).digest() for i in batch]
        found = kept.find(keys)
        assert found == {key: expected[key] for key in keys if key in expected}
        for key in dict.fromkeys(keys):
            if key not in found:
                expected[key] = len(expected)
                kept.add(key, expected[key])
    assert len(kept) == len(expected)


def test_digests_that_end_in_zeros_are_told_apart():
    keys = [bytes([1]) + bytes(31), bytes([1, 0, 1]) + bytes(29), bytes(32)]
    kept = Digests(recent=1)
    for number, key in enumerate(keys):
        kept.add(key, number)
    assert kept.find(keys) == {key: number for number, key in enumerate(keys)}
