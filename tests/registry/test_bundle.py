import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline import paths
from pipeline.artifacts import read_json, write_json
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from pipeline.registry import bundle
from tests.drawing import COLOURS, draw

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"


@pytest.fixture
def saved(tiny: Clip, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    bundle.save(folder, tiny, record={"seed": 0}, card="# A model\n")
    return folder


def edit(folder: Path, **changes: Any) -> None:
    manifest = read_json(folder / paths.MANIFEST)
    write_json(folder / paths.MANIFEST, {**manifest, **changes})


def test_the_manifest_lists_size_and_hash_of_every_other_file(saved: Path) -> None:
    files = read_json(saved / paths.MANIFEST)["files"]
    assert sorted(files) == ["README.md", CONFIG, WEIGHTS]
    assert {*files, paths.MANIFEST} == {file.name for file in saved.iterdir()}
    card = b"# A model\n"
    assert files["README.md"] == {"bytes": 10, "sha256": hashlib.sha256(card).hexdigest()}


def test_a_bundle_loads_as_it_was_saved(tiny: Clip, saved: Path, tmp_path: Path) -> None:
    draw(tmp_path / "a.png", COLOURS["red"], size=(30, 200))
    with Image.open(tmp_path / "a.png") as picture:
        crop = torch.from_numpy(tiny.crop(picture).copy())[None]
    again = bundle.load(saved)
    tokens = tiny.tokenizer(["a red star"])
    with torch.no_grad():
        assert torch.equal(
            again.model.encode_image(again.pixels(crop)),
            tiny.model.encode_image(tiny.pixels(crop)),
        )
        assert torch.equal(
            again.model.encode_text(again.tokenizer(["a red star"])), tiny.model.encode_text(tokens)
        )


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "README.md"])
def test_a_changed_byte_is_found_before_anything_is_loaded(saved: Path, name: str) -> None:
    file = saved / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} changed since it was written.*dvc checkout"):
        bundle.load(saved)


def test_a_file_cut_short_or_missing_is_named(saved: Path) -> None:
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(content[:1000])
    with pytest.raises(ModelError, match=rf"{WEIGHTS} has 1,000 bytes.*says {len(content):,}"):
        bundle.load(saved)
    (saved / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=rf"{WEIGHTS} is missing.*copy the whole folder again"):
        bundle.load(saved)


def test_what_is_not_listed_is_let_be(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    (saved / "pytorch_model.bin").write_bytes(b"\x80")
    assert bundle.load(saved).architecture == "scenes-resnet"


def test_an_architecture_that_open_clip_cannot_build_is_told(saved: Path) -> None:
    config = read_json(saved / CONFIG)
    config["model_cfg"]["vision_cfg"] = {"timm_model_name": "of_next_year", "image_size": 64}
    write_json(saved / CONFIG, config)
    content = (saved / CONFIG).read_bytes()
    said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files = read_json(saved / paths.MANIFEST)["files"]
    edit(saved, architecture="ViT-2030", files={**files, CONFIG: said})
    with pytest.raises(ModelError, match=r"(?s)architecture, ViT-2030, does not load.*Install"):
        bundle.load(saved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": {CONFIG: {"bytes": 1, "sha256": "0"}}}, f"lacks {WEIGHTS}"),
        ({"files": []}, "no mapping"),
        ({"files": {CONFIG: {"bytes": 1, "sha256": "0"}, WEIGHTS: 3}}, "lacks bytes or sha256"),
        ({"architecture": 3}, "names no architecture"),
    ],
)
def test_a_manifest_that_vouches_for_nothing_is_told(
    saved: Path, changes: dict[str, Any], said: str
) -> None:
    edit(saved, **changes)
    with pytest.raises(ModelError, match=said):
        bundle.load(saved)


def test_a_manifest_names_no_file_outside(saved: Path) -> None:
    files = read_json(saved / paths.MANIFEST)["files"]
    edit(saved, files={**files, "../secret": {"bytes": 1, "sha256": "0"}})
    with pytest.raises(ModelError, match=r"'\.\./secret', which lies outside the folder"):
        bundle.load(saved)


def test_what_is_no_bundle_says_how_to_get_one(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere does not exist.*dvc repro"):
        bundle.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty holds no cliptune\.json.*dvc repro"):
        bundle.load(tmp_path / "empty")
    manifest = read_json(saved / paths.MANIFEST)
    del manifest["files"]
    write_json(saved / paths.MANIFEST, manifest)
    with pytest.raises(ModelError, match=r"no hashes of files.*make it again.*dvc repro"):
        bundle.load(saved)
    (saved / paths.MANIFEST).write_text("<<<<<<< HEAD")
    with pytest.raises(ModelError, match=r"cliptune\.json is not valid JSON"):
        bundle.load(saved)
