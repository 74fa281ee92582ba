from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.pictures import listed, named, read_picture
from pipeline.errors import DataError
from tests.drawing import draw


def test_a_folder_is_its_images_and_tells_of_kinds_not_read(tmp_path: Path) -> None:
    draw(tmp_path / "b.JPG", (1, 2, 3), size=(8, 8))
    draw(tmp_path / "sub/a.png", (1, 2, 3), size=(8, 8))
    for name in ("c.heic", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    found = listed(tmp_path)
    assert found.files == {
        "b.JPG": tmp_path / "b.JPG",
        "sub/a.png": tmp_path / "sub/a.png",
    }
    assert [one.name for one in found.unread] == ["c.heic"]
    both = named([tmp_path / "b.JPG", tmp_path / "sub"])
    assert list(both.files) == [str(tmp_path / "b.JPG"), str(tmp_path / "sub/a.png")]


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds no images.*and 1 of kinds that are not read"):
        listed(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        listed(tmp_path / "c.heic")


def test_a_picture_above_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """Its header alone is there."""
    draw(tmp_path / "a.png", (1, 2, 3), size=(40, 30))
    assert read_picture(tmp_path / "a.png", max_pixels=1200).size == (40, 30)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:60])
    with pytest.raises(OSError, match=r"40 × 30 pixels are more than 1,199"):
        read_picture(tmp_path / "a.png", max_pixels=1199)
    with pytest.raises(OSError, match="can't be decoded"):
        read_picture(tmp_path / "a.png", max_pixels=1200)


def test_what_is_no_picture_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    (tmp_path / "large.jpg").write_bytes(b"\0" * 81)
    with pytest.raises(OSError, match="no picture could be read from it"):
        read_picture(tmp_path / "a.jpg", max_pixels=100)
    with pytest.raises(OSError, match="its 81 bytes are more than 10 pixels take"):
        read_picture(tmp_path / "large.jpg", max_pixels=10)
    with pytest.raises(OSError, match="no such file"):
        read_picture(tmp_path / "gone.jpg", max_pixels=10)
    with pytest.raises(OSError, match="is no file"):
        read_picture(Path("/dev/null"), max_pixels=10)


def test_a_picture_comes_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg", max_pixels=1200).size == (30, 40)
