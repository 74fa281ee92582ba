"""General sets in the layouts that people have, of real pictures and real tar files."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.evaluation import sets
from pipeline.evaluation.labels import NO_CAPTIONS, NUMBERS, OF_CLASSES
from pipeline.evaluation.sets import EvalSet
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


def captioned(folder: Path, rows: list[tuple[str, str]]) -> None:
    """A captions file, and the pictures that it names."""
    lines = ["image,caption,label"]
    for number, (caption, label) in enumerate(rows):
        jpeg(folder, f"{number}.jpg", seed=number)
        lines.append(f"{number}.jpg,{caption},{label}")
    (folder / "captions.csv").write_text("\n".join(lines))


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
        ({"test/nshards.txt": "0"}, r"says '0', which is no number of shards"),
        ({"dataset_type.txt": "multilabel"}, r"several classes has no right answer"),
        ({"set.yaml": "synonyms: {hound: [x]}"}, r"synonyms names 'hound', which is no class"),
        ({"set.yaml": "captions: some"}, r"`captions` is 'some': input should be 'own' or 'none'"),
        ({"set.yaml": "split: val"}, r"wds_pets/set\.yaml: split is 'val', and no row is of it"),
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
    with pytest.raises(DataError, match=r"one class, 'pet': any answer would be right"):
        read(folder.parent)


def test_labels_of_one_name_are_one_class(benchmark: Path) -> None:
    """The names of ImageNet's classes that CLIP_benchmark has hold `missile` and others twice."""
    (benchmark / "classnames.txt").write_text("missile\nmissile\nowl")
    found = read(benchmark.parent)["wds_pets"]
    assert found.classes == ["missile", "owl"]
    assert found.pairs["label"].tolist() == ["missile", "missile"]


def test_numbers_name_no_class(benchmark: Path) -> None:
    (benchmark / "classnames.txt").unlink()
    with pytest.raises(DataError, match=r"its labels are numbers.*name them in classnames\.txt"):
        read(benchmark.parent)
    (benchmark / "set.yaml").write_text("classes: {0: dog, 1: 1}")
    assert read(benchmark.parent)["wds_pets"].classes == ["dog", "1"], "YAML reads them as numbers"


def test_a_set_with_captions_is_searched_whatever_its_labels(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "mine"
    captioned(folder, [("a sleeping cat", "0"), ("a dog that runs", "1")])
    found = read(folder.parent)["mine"]
    assert (found.classes, found.unsearched, found.unnamed) == ([], None, NUMBERS)


def test_captions_that_are_classes_in_one_sentence_are_not_searched(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "mine"
    captioned(folder, [("a photo of a Cat", "cat"), ("a photo of a polar bear", "polar_bear")])
    assert read(folder.parent)["mine"].unsearched == OF_CLASSES
    (folder / "set.yaml").write_text("captions: own")
    assert read(folder.parent)["mine"].unsearched is None
    captioned(folder, [("a photo of a cat", "cat"), ("one photo of a dog", "dog")])
    (folder / "set.yaml").write_text("captions: none")
    assert read(folder.parent)["mine"].unsearched == "its set.yaml says so"
    captioned(folder, [("a photo of a cat", ""), ("one photo of a dog", "")])
    with pytest.raises(DataError, match="not searched, and it has no labels"):
        read(folder.parent)


def test_folders_are_named_as_they_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "fish"
    jpeg(folder / "great_white", "0.jpg", seed=0)
    jpeg(folder / "n01440764", "1.jpg", seed=1)
    (folder / "set.yaml").write_text("classes: {great_white: shark, n01440764: tench}")
    assert read(folder.parent)["fish"].pairs["label"].tolist() == ["shark", "tench"]


def test_of_train_and_val_the_latter_counts_and_the_rest_is_not_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "pets"
    for part in ("train", "val"):
        for seed, name in enumerate(("cat", "dog")):
            jpeg(folder / part / name, f"{part}.jpg", seed=seed + len(part))
    found = read(folder.parent)["pets"]
    assert found.pairs["image"].tolist() == ["val/cat/val.jpg", "val/dog/val.jpg"]
    assert len(found.places) == 2
    with pytest.raises(DataError, match=r"holds train/ and seems to be a set itself"):
        read(folder)


def test_another_part_of_a_set_of_clip_benchmark(benchmark: Path) -> None:
    (benchmark / "set.yaml").write_text("split: train")
    (benchmark / "train" / "nshards.txt").write_text("1")
    assert read(benchmark.parent)["wds_pets"].pairs["label"].tolist() == ["owl"]
    (benchmark / "set.yaml").write_text("split: test")
    assert read(benchmark.parent)["wds_pets"].pairs["label"].tolist() == ["dog", "cat"]


def test_the_row_that_is_not_whole_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "general" / "mine"
    jpeg(folder, "0.jpg", seed=0)
    (folder / "captions.csv").write_text("image,label\n0.jpg,cat\n0.jpg,dog\n0.jpg,\n")
    with pytest.raises(DataError, match=r"row 3 lacks a label, and has no caption"):
        read(folder.parent)
    (folder / "captions.csv").write_text("foo,bar\n0.jpg,cat\n")
    with pytest.raises(DataError, match=r"set data\.columns\.image\n.*keys are of your own data"):
        read(folder.parent)


def test_an_image_that_leads_out_of_its_set_is_none(classes: Path) -> None:
    jpeg(classes.parent.parent, "far.jpg", seed=0)
    (classes / "cat" / "far.jpg").symlink_to(classes.parent.parent / "far.jpg")
    with pytest.raises(DataError, match=r"far\.jpg is missing or leads out of its set"):
        read(classes.parent)


def test_files_beside_the_sets_make_no_set_of_their_folder(classes: Path) -> None:
    for name in ("README.md", "pets.dvc", ".gitignore"):
        (classes.parent / name).write_text("")
    assert list(read(classes.parent)) == ["pets"]


def test_where_the_sets_lie(tmp_path: Path, classes: Path) -> None:
    with pytest.raises(DataError, match=r"'.*nowhere', which is not a folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    assert read(tmp_path / "none") == {}
    with pytest.raises(
        DataError, match=r"pets/cat holds images and no captions.*name the folder above"
    ):
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
