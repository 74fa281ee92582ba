"""A model is used in a folder that holds it and nothing else of the project."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from pipeline import cli
from pipeline.clip.model import Clip
from pipeline.registry import bundle
from tests.drawing import COLOURS, draw

PROMPTS = {
    "templates": ["a photo of a {}.", "{}"],
    "classes": ["red square", "blue_square"],
    "synonyms": {"red square": ["crimson box"]},
}


@pytest.fixture(autouse=True)
def anywhere(tiny: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures, one of them not square, and a bundle where the command looks for it."""
    monkeypatch.chdir(tmp_path)
    draw(Path("shop/a.png"), COLOURS["red"], size=(90, 61))
    draw(Path("shop/b.jpg"), COLOURS["blue"], size=(64, 64))
    bundle.save(Path("models/final"), tiny, record={"prompts": PROMPTS})
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    cli.main(arguments)
    return capsys.readouterr().out


def stopped(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 1
    return capsys.readouterr().err


def plain(classes: list[list[str]], path: str) -> list[float]:
    """The probabilities by plain OpenCLIP."""
    name = "local-dir:models/final"
    model, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad(), Image.open(path) as picture:
        image = model.eval().encode_image(transform(picture)[None], normalize=True)
        means = [model.encode_text(tokenizer(some), normalize=True).mean(0) for some in classes]
        weights = torch.stack([mean / mean.norm() for mean in means])
        logits = model.logit_scale.exp() * image @ weights.T
    found: list[float] = logits.softmax(dim=-1)[0].tolist()
    return found


def probabilities(line: str) -> dict[str, float]:
    labels: list[dict[str, Any]] = json.loads(line)["labels"]
    return {label["class"]: label["probability"] for label in labels}


def test_probabilities_are_plain_open_clips(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "predict", "shop/a.png", "--json", "--classes", "cat", "dog", "owl")
    expected = plain([[f"a photo of a {x}.", x] for x in ("cat", "dog", "owl")], "shop/a.png")
    found = probabilities(out)
    assert [found[x] for x in ("cat", "dog", "owl")] == pytest.approx(expected, abs=1e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_without_names_it_asks_as_it_was_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "predict", "shop", "--json")
    red = ["a photo of a red square.", "red square", "a photo of a crimson box.", "crimson box"]
    blue = ["a photo of a blue_square.", "blue_square"]
    first, second = out.splitlines()
    assert [json.loads(line)["image"] for line in (first, second)] == ["shop/a.png", "shop/b.jpg"]
    for line, path in ((first, "shop/a.png"), (second, "shop/b.jpg")):
        found = probabilities(line)
        expected = plain([red, blue], path)
        assert [found["red square"], found["blue_square"]] == pytest.approx(expected, abs=1e-6)


def test_the_table_holds_the_likeliest_and_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("shop/a.png").rename("shop/\x1b[31ma.png")
    out = said(capsys, "predict", "shop", "--top", "1", "--classes", "a\x1b[2J", "b\x1b[2J")
    first, label, empty, *_ = out.splitlines()
    assert "\x1b" not in out
    assert first == "shop/�[31ma.png"
    assert label.strip().endswith("�[2J")
    assert empty == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg"], "gone.jpg: there is no such file"),
        (["shop/broken.jpg"], "shop/broken.jpg: no picture could be read from it"),
        (["shop/c.heic", "shop"], "shop/c.heic: no picture could be read from it"),
        (["bad"], "no file gives a picture; bad/d.png: no picture could be read from it"),
        (["shop/a.png", "--max-pixels", "5000"], "a.png: its 90 × 61 pixels are more than 5,000"),
        (["models"], "models holds no images"),
        (["shop/a.png", "--classes", "Red_Fox", "red  fox"], "'Red_Fox' and 'red  fox' are the"),
        (["shop/a.png", "--classes", "cat"], "'cat' is the only class"),
        (["shop/a.png", "--classes", " ", "cat"], "class ' ' is empty"),
        (["shop/a.png", "--templates", "a photo"], "template 'a photo' needs exactly one {}"),
        (["shop/a.png", "--model", "shop"], "shop holds no cliptune.json"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("bad").mkdir()
    for name in ("shop/broken.jpg", "shop/c.heic", "bad/d.png"):
        Path(name).write_text("<html>404</html>")
    error = stopped(capsys, "predict", *arguments)
    assert error.startswith("error: ")
    assert message in error


def test_broken_files_of_a_folder_are_told_and_the_others_predicted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("shop/broken.jpg", "shop/c.heic"):
        Path(name).write_text("<html>404</html>")
    out = said(capsys, "predict", "shop")
    assert out.count("red square") == 2
    assert "2 of 4 files gave no picture:" in out
    lines = [json.loads(line) for line in said(capsys, "predict", "shop", "--json").splitlines()]
    assert [line["image"] for line in lines if "labels" in line] == ["shop/a.png", "shop/b.jpg"]
    whys = {line["image"]: line["unread"] for line in lines if "unread" in line}
    assert whys["shop/broken.jpg"].startswith("no picture could be read")
    assert ".heic images are not read" in whys["shop/c.heic"]


def test_a_bundle_that_was_not_evaluated_is_to_be_told_what_to_ask(
    tiny: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle.save(Path("models/finetuned"), tiny, record={})
    ask = ["predict", "shop/a.png", "--model", "models/finetuned"]
    assert "records no classes" in stopped(capsys, *ask)
    assert "records no templates" in stopped(capsys, *ask, "--classes", "cat", "dog")
    out = said(capsys, *ask, "--classes", "cat", "dog", "--templates", "{}", "--json")
    assert set(probabilities(out)) == {"cat", "dog"}


def test_a_folder_is_searched_by_a_bundle(tiny: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shop/broken.jpg").write_text("<html>404</html>")
    Path("shop/c.heic").write_bytes(b"")
    out = said(capsys, "search", "a red star", "--model", "models/final", "--images", "shop")
    model, _, transform = open_clip.create_model_and_transforms("local-dir:models/final")
    with torch.no_grad():
        tokens = open_clip.get_tokenizer("local-dir:models/final")(["a red star"])
        text = model.eval().encode_text(tokens, normalize=True)
        images = [
            model.encode_image(transform(Image.open(f"shop/{name}"))[None], normalize=True)
            for name in ("a.png", "b.jpg")
        ]
    cosines = {n: float(i @ text.T) for n, i in zip(("a.png", "b.jpg"), images, strict=True)}
    lines = [line.split() for line in out.splitlines()[:2]]
    assert [name for _, _, name in lines] == sorted(cosines, key=lambda n: -cosines[n])
    assert np.allclose([float(c) for _, c, _ in lines], sorted(cosines.values())[::-1], atol=6e-4)
    assert "2 of 4 files gave no picture:" in out
    assert "broken.jpg: no picture could be read" in out
    assert "c.heic: .heic images are not read" in out
    page = Path(".cliptune/search.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "the embeddings of models/final" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "the text is empty"),
        (["a star", "--model", "models/final"], "--model and --images go together"),
        (["a star", "--images", "shop"], "--model and --images go together"),
        (["a star", "--model", "models/final", "--images", "none"], "none is no folder"),
        (["a star", "--model", "models/final", "--images", "broken"], "gives a picture; a.jpg:"),
    ],
)
def test_a_search_that_cannot_be_done_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("broken").mkdir()
    Path("broken/a.jpg").write_text("<html>404</html>")
    assert message in stopped(capsys, "search", *arguments)
