"""General sets in the layouts that people have, of real pictures and real tar files."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.evaluation import sets
from pipeline.evaluation.sets import NO_CAPTIONS, EvalSet
from tests.drawing import COLOURS, draw


def read(folder: Path, **options: Any) -> dict[str, EvalSet]:
    asked = {"scratch": folder.parent / "scratch", "template": "a photo of a {}."} | options
    return sets.general(folder, **asked)


def jpeg(folder: Path, name: str, *, seed: int) -> bytes:
    draw(folder / name, list(COLOURS.values())[seed % 4], seed=seed, size=(32, 24))
    return (folder / name).read_bytes()


def shard(file: Path, members: dict[str, bytes | str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A general set of class folders: two cats, a dog."""
    for number, name in enumerate(("cat", "cat", "dog")):
        draw(tmp_path / f"general/pets/{name}/{number}.jpg", (9, 9, 9), seed=number, size=(32, 24))
    return tmp_path / "general" / "pets"


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """CLIP_benchmark's layout: two shards of labelled pictures, and a third to train on."""
    folder = tmp_path / "general" / "wds_pets"
    for number in range(3):
        part = "train" if number == 2 else "test"
        shard(
            folder / part / f"{number % 2}.tar",
            {
                f"s{number}.cls": f"{number}",
                f"s{number}.jpg": jpeg(tmp_path, f"{number}.jpg", seed=number),
            },
        )
    (folder / "test" / "nshards.txt").write_text("2")
    (folder / "classnames.txt").write_text("dog\ncat\n  owl  \n")
    (folder / "zeroshot_classification_templates.txt").write_text("itap of a {c}.\na {c}\n")
    return folder


def test_class_folders_are_classified_and_not_searched(classes: Path) -> None:
    found = read(classes.parent)["pets"]
    assert found.pairs["label"].tolist() == ["cat", "cat", "dog"]
    assert found.classes == ["cat", "dog"]
    assert (found.unsearched, found.templates) == (NO_CAPTIONS, None)
    assert found.pairs["caption"].tolist()[2] == "a photo of a dog."
    assert found.places.keys() == {*found.pairs["image_id"]}


def test_a_set_of_clip_benchmark_is_read_as_that_reads_it(benchmark: Path) -> None:
    found = read(benchmark.parent)["wds_pets"]
    assert found.classes == ["dog", "cat", "owl"], "in its order, with the class it has no image of"
    assert found.pairs["label"].tolist() == ["dog", "cat"]
    assert found.templates == ["itap of a {}.", "a {}"]
    assert found.unsearched == NO_CAPTIONS
    for image_id in found.pairs["image_id"]:
        assert found.places[image_id].read()[:2] == b"\xff\xd8"


def test_a_retrieval_set_of_clip_benchmark_has_a_caption_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "wds_flickr"
    image = jpeg(tmp_path, "a.jpg", seed=0)
    shard(folder / "test" / "0.tar", {"a.jpg": image, "a.txt": "one cat\na second caption\n"})
    (folder / "test" / "nshards.txt").write_text("1\n")
    (folder / "dataset_type.txt").write_text("retrieval")
    found = read(folder.parent)["wds_flickr"]
    assert found.pairs["caption"].tolist() == ["one cat", "a second caption"]
    assert found.pairs["image_id"].nunique() == 1
    assert (found.classes, found.unsearched) == ([], None)


def test_set_yaml_goes_before_all_else(benchmark: Path) -> None:
    (benchmark / "set.yaml").write_text(
        "templates: simple_imagenet\nclasses: [hound, tabby, owl]\nsynonyms: {hound: [dog]}\n"
    )
    found = read(benchmark.parent)["wds_pets"]
    assert found.pairs["label"].tolist() == ["hound", "tabby"]
    assert found.templates == "simple_imagenet"
    assert found.synonyms == {"hound": ["dog"]}


def test_names_by_label(classes: Path) -> None:
    (classes / "set.yaml").write_text("classes: {cat: tabby, dog: hound}")
    found = read(classes.parent)["pets"]
    assert found.classes == ["tabby", "hound"]
    assert found.pairs["label"].tolist() == ["tabby", "tabby", "hound"]


def test_the_test_part_counts_unless_the_set_says_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "mine"
    for number in range(3):
        jpeg(folder, f"{number}.jpg", seed=number)
    lines = ["image,caption,split", "0.jpg,a,train", "1.jpg,b,test", "2.jpg,c,val"]
    (folder / "captions.csv").write_text("\n".join(lines))
    assert read(folder.parent)["mine"].pairs["caption"].tolist() == ["b"]
    (folder / "set.yaml").write_text("split: val")
    assert read(folder.parent)["mine"].pairs["caption"].tolist() == ["c"]
    (folder / "set.yaml").write_text("split: dev2")
    with pytest.raises(DataError, match=r"split is 'dev2', and no row"):
        read(folder.parent)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test/nshards.txt": "3"}, r"2\.tar is missing: .*counts 3 shards, 0\.tar to 2\.tar"),
        ({"test/nshards.txt": "1"}, r"1\.tar is one too many: .*counts 1 shards"),
        ({"test/nshards.txt": "many"}, r"says 'many', which is no number of shards"),
        ({"classnames.txt": "dog\n"}, r"row 2 has the label '1', and the set names 1 classes"),
        ({"classnames.txt": "dog\n\nowl"}, r"classnames\.txt, line 2 is blank"),
        ({"classnames.txt": "cat\nCat\nowl"}, r"'cat' and 'Cat' are the same but for case"),
        ({"classnames.txt": ""}, r"classnames\.txt is empty"),
        (
            {"zeroshot_classification_templates.txt": "a {}{c}"},
            r"line 1: 'a \{\}\{\}' needs \{c\} once",
        ),
        ({"set.yaml": "template: [a]"}, r"set\.yaml: unknown key `template`: did you mean"),
        ({"set.yaml": "templates: [a]"}, r"`templates`: template 'a' needs exactly one"),
        ({"set.yaml": "- a"}, r"set\.yaml is no mapping: it may hold templates, classes"),
        ({"set.yaml": "a: ["}, r"set\.yaml is not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_set_is_said(
    benchmark: Path, change: dict[str, str], said: str
) -> None:
    for name, content in change.items():
        (benchmark / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read(benchmark.parent)


def test_a_set_must_be_whole(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "mine"
    jpeg(folder, "0.jpg", seed=0)
    for rows, said in (
        (["0.jpg,a", "1.jpg,b"], r"1\.jpg is missing or leads out of its set"),
        (["0.jpg,a", ",b"], r"row 2 lacks its image"),
        (["0.jpg,a", "0.jpg,"], r"row 2 lacks its caption"),
        (["0.jpg,a", "0.jpg,b,c"], r"row 2: 3 fields, the header has 2"),
    ):
        (folder / "captions.csv").write_text("\n".join(["image,caption", *rows]))
        with pytest.raises(DataError, match=said):
            read(folder.parent)


def test_classes_alone_of_one_class_measure_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "pets"
    jpeg(folder / "cat", "0.jpg", seed=0)
    jpeg(folder / "dog", "1.jpg", seed=1)
    (folder / "set.yaml").write_text("classes: {cat: pet, dog: pet}")
    with pytest.raises(DataError, match=r"one class, 'pet'|the same but for case"):
        read(folder.parent)


def test_where_the_sets_lie(tmp_path: Path, classes: Path) -> None:
    with pytest.raises(DataError, match=r"'.*nowhere', which is not a folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    assert read(tmp_path / "none") == {}
    with pytest.raises(DataError, match=r"the general set cat: .*\n.*is one set"):
        read(classes)
    (classes / "set.yaml").write_text("split: test")
    with pytest.raises(DataError, match=r"holds set\.yaml and seems to be a set itself"):
        read(classes)
    (classes.parent / "linked").symlink_to(classes)
    with pytest.raises(DataError, match=r"linked is a link, which DVC does not follow"):
        read(classes.parent)
    (classes.parent / "linked").unlink()
    classes.rename(classes.parent / "target")
    with pytest.raises(DataError, match="that name means your own test split"):
        read(classes.parent)
