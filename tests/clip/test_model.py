import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from pipeline import paths
from pipeline.artifacts import read_json, sha256_of
from pipeline.clip import model
from pipeline.clip.embed import embed_texts, truncated
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from pipeline.registry import bundle
from tests.drawing import COLOURS, draw

CPU = torch.device("cpu")


@pytest.fixture
def saved(tiny: Clip, tmp_path: Path) -> Path:
    bundle.save(tmp_path / "bundle", tiny, record={"seed": 0})
    return tmp_path / "bundle"


def logits(clip: Clip, picture: Image.Image, texts: list[str]) -> torch.Tensor:
    crop = torch.from_numpy(clip.crop(picture).copy())[None]
    with torch.no_grad():
        image, text, scale = clip.model(clip.pixels(crop), clip.tokenizer(texts))[:3]
    return scale * image @ text.T


@pytest.mark.parametrize("size", [(64, 64), (90, 61), (30, 200)])
def test_crop_and_pixels_are_open_clips_own_transform(
    tiny: Clip, saved: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    draw(tmp_path / "a.png", COLOURS["red"], size=size)
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{saved}")
    with Image.open(tmp_path / "a.png") as picture:
        expected = transform(picture)
        mine = tiny.pixels(torch.from_numpy(tiny.crop(picture).copy())[None])[0]
    assert torch.equal(mine, expected)


def test_a_bundle_loads_with_the_same_logits(tiny: Clip, saved: Path, tmp_path: Path) -> None:
    draw(tmp_path / "a.png", COLOURS["red"], size=(90, 61))
    texts = ["a red star", "a blue disc"]
    with Image.open(tmp_path / "a.png") as picture:
        again = model.load_folder(saved)
        assert torch.equal(logits(tiny, picture, texts), logits(again, picture, texts))
    assert again.architecture == "scenes-resnet"


def test_a_fingerprint_is_of_what_computes(tiny: Clip, saved: Path, tmp_path: Path) -> None:
    """Another card or record is the same model; another weight, or tokenizer file, is not."""
    expected = model.load_folder(saved).fingerprint
    bundle.save(tmp_path / "told", tiny, record={"seed": 1}, card="# Mine")
    assert model.load_folder(tmp_path / "told").fingerprint == expected
    (tmp_path / "told/vocab.txt").write_text("a")
    assert model.load_folder(tmp_path / "told").fingerprint != expected
    with torch.no_grad():
        tiny.model.logit_scale += 1
    bundle.save(tmp_path / "other", tiny, record={"seed": 0})
    assert model.load_folder(tmp_path / "other").fingerprint != expected


def test_a_bundle_needs_nothing_of_ours(tiny: Clip, saved: Path, tmp_path: Path) -> None:
    """Plain OpenCLIP, in a process that can't import the project, outside the repository."""
    draw(tmp_path / "a.png", COLOURS["red"], size=(90, 61))
    texts = ["a red star", "a blue disc"]
    script = f"""
        import importlib.util, numpy, open_clip, torch
        from PIL import Image
        assert importlib.util.find_spec("pipeline") is None
        name = "local-dir:{saved}"
        model, _, transform = open_clip.create_model_and_transforms(name)
        tokens = open_clip.get_tokenizer(name)({texts!r})
        with torch.no_grad():
            image, text, scale = model.eval()(transform(Image.open("a.png"))[None], tokens)
        numpy.save("logits.npy", (scale * image @ text.T).numpy())
    """
    # -S leaves site-packages out, and with them the editable install of this project.
    site = Path(torch.__file__).parents[1]
    ours = f"import sys; sys.path.append({str(site)!r})\n"
    command = [sys.executable, "-S", "-I", "-c", ours + textwrap.dedent(script)]
    subprocess.run(command, cwd=tmp_path, check=True)
    with Image.open(tmp_path / "a.png") as picture:
        expected = logits(tiny, picture, texts).numpy()
    assert np.array_equal(np.load(tmp_path / "logits.npy"), expected)


def test_the_same_model_gives_the_same_bytes(tiny: Clip, saved: Path, tmp_path: Path) -> None:
    bundle.save(tmp_path / "again", tiny, record={"seed": 0})
    assert sha256_of(tmp_path / "again") == sha256_of(saved)
    manifest = read_json(saved / paths.MANIFEST)
    del manifest["files"]
    assert manifest == {"architecture": "scenes-resnet", "seed": 0}


def test_another_architecture_than_recorded_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"set model\.name to scenes-resnet"):
        model.load(saved, architecture="ViT-B-32")


def test_what_is_no_model_is_named(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(ModelError, match="no model at"):
        model.load(tmp_path / "none", architecture="ViT-B-32")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no open_clip_config"):
        model.load(tmp_path / "empty", architecture="ViT-B-32")
    (saved / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="can't load"):
        model.load_folder(saved)


def test_a_checkpoint_file_of_a_known_architecture_loads(tiny: Clip, saved: Path) -> None:
    again = model.load(saved / "open_clip_model.safetensors", architecture="scenes-resnet")
    weights = zip(tiny.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_a_wrong_tag_names_the_right_ones() -> None:
    with pytest.raises(ModelError, match="laion2b_s34b_b79k"):
        model.fetch("ViT-B-32", "laion2b")
    with pytest.raises(ModelError, match="OpenCLIP does not know"):
        model.fetch("ViT-B-33", "openai")


def test_a_tag_is_known_by_the_repository_it_comes_from() -> None:
    assert model.published("ViT-B-32", "openai") == "timm/vit_base_patch32_clip_224.openai"
    assert model.published("ViT-B-32", "../models/mine") is None
    assert model.published("of-my-own", "openai") is None


def test_pretrained_is_a_name_in_hub_or_a_path_from_it() -> None:
    assert model.locate("laion2b_s34b_b79k") == Path("hub/laion2b_s34b_b79k")
    assert model.locate("../models/mine") == Path("models/mine")


def test_truncated_counts_texts_longer_than_the_context(tiny: Clip) -> None:
    places = tiny.config["model_cfg"]["text_cfg"]["context_length"]
    fits = " ".join(["cat"] * (places - 2))  # two places are for start and end
    texts = ["a cat", fits, fits + " cat", "dog " * 200]
    assert truncated(tiny, texts, batch_size=3) == 2


def test_embeddings_are_of_unit_length_whatever_the_batch(tiny: Clip) -> None:
    texts = [f"a picture of {n} cats" for n in range(7)]
    whole = embed_texts(tiny, texts, batch_size=7, device=CPU)
    parts = embed_texts(tiny, texts, batch_size=3, device=CPU)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    assert np.allclose(whole, parts, atol=1e-6)


def test_a_text_among_others_of_its_length_is_what_it_is_alone(tiny: Clip) -> None:
    """Cut to its end, and put where it was asked for."""
    random = np.random.default_rng(0)
    texts = [" ".join(["cat"] * int(n)) for n in random.permutation(9)]
    found = embed_texts(tiny, texts, batch_size=2, device=CPU)
    with torch.no_grad():
        whole = tiny.model.encode_text(tiny.tokenizer(texts), normalize=True).numpy()  # type: ignore[operator]
    assert np.allclose(found, whole, atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=1e-3)
