import os
from pathlib import Path

import pytest
from conftest import draw
from PIL import Image

from pipeline.artifacts import sha256_of
from pipeline.data.images import inside, inspect, open_image
from pipeline.params import Params, ValidateParams

RED = (200, 30, 30)


@pytest.fixture
def limits(defaults: Params) -> ValidateParams:
    return defaults.limits


def bomb(path: Path) -> None:
    """A PNG of few bytes whose header announces 60,000 × 60,000 pixels."""
    Image.new("1", (8, 8)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def test_a_good_image_is_hashed_and_measured(tmp_path: Path, limits: ValidateParams) -> None:
    draw(tmp_path / "a.jpg", RED, size=(60, 40))
    found = inspect(tmp_path, "a.jpg", limits)
    assert found.problem is None
    assert (found.width, found.height) == (60, 40)
    assert found.image_id == sha256_of(tmp_path / "a.jpg")


def test_a_png_named_jpg_is_good(tmp_path: Path, limits: ValidateParams) -> None:
    draw(tmp_path / "a.png", RED, size=(60, 40))
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert inspect(tmp_path, "a.jpg", limits).problem is None


def test_each_defect_has_its_reason(tmp_path: Path, limits: ValidateParams) -> None:
    draw(tmp_path / "whole.jpg", RED, size=(200, 200))
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("I am no picture")
    draw(tmp_path / "dot.png", RED, size=(1, 1))
    draw(tmp_path / "line.png", RED, size=(400, 20))
    bomb(tmp_path / "bomb.png")
    (tmp_path / "folder.jpg").mkdir()
    names = ["cut.jpg", "empty.jpg", "text.jpg", "dot.png", "line.png", "bomb.png"]
    names += ["none.jpg", "folder.jpg", "../out.jpg", "/etc/passwd", "a\0.jpg"]
    found = {name: inspect(tmp_path, name, limits).problem for name in names}
    assert found == {
        "cut.jpg": "image_truncated",
        "empty.jpg": "image_empty",
        "text.jpg": "image_unreadable",
        "dot.png": "image_too_small",
        "line.png": "image_too_narrow",
        "bomb.png": "image_too_many_pixels",
        "none.jpg": "image_missing",
        "folder.jpg": "image_missing",
        "../out.jpg": "image_outside_root",
        "/etc/passwd": "image_outside_root",
        "a\0.jpg": "image_outside_root",
    }


def test_what_is_said_of_an_image_names_no_folder(tmp_path: Path, limits: ValidateParams) -> None:
    """Else the same source in another place would give other bytes."""
    (tmp_path / "text.jpg").write_text("I am no picture")
    found = inspect(tmp_path, "text.jpg", limits)
    assert found.value == "UnidentifiedImageError: cannot identify image file 'text.jpg'"


def test_a_file_above_the_byte_limit_is_not_opened(tmp_path: Path, limits: ValidateParams) -> None:
    draw(tmp_path / "a.jpg", RED, size=(60, 40))
    size = os.path.getsize(tmp_path / "a.jpg")
    found = inspect(tmp_path, "a.jpg", limits.model_copy(update={"max_bytes": size - 1}))
    assert (found.problem, found.value) == ("image_too_many_bytes", f"{size} bytes")


def test_a_link_out_of_the_root_is_outside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    draw(tmp_path / "secret.jpg", RED, size=(60, 40))
    (tmp_path / "root" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    assert inside(tmp_path / "root", "link.jpg") is None
    assert inside(tmp_path / "root", "sub/../a.jpg") == (tmp_path / "root" / "a.jpg").resolve()


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90°
    Image.new("RGB", (60, 40), RED).save(tmp_path / "a.jpg", exif=exif)
    with open_image(tmp_path / "a.jpg") as picture:
        assert picture.size == (40, 60)
