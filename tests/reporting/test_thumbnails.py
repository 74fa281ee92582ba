import base64
import io

from PIL import Image

from pipeline.reporting.thumbnails import thumbnail
from tests.reporting.synthetic import draw_pictures

START = "data:image/jpeg;base64,"


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(START))))


def test_the_longer_side_is_96_pixels(tmp_path):
    draw_pictures(tmp_path, 1)
    uri = thumbnail(tmp_path, "0.png")
    assert uri.startswith(START)
    assert opened(uri).size == (96, 48)
    assert uri == thumbnail(tmp_path, "0.png")


def test_a_small_picture_is_not_blown_up(tmp_path):
    Image.new("L", (20, 30)).save(tmp_path / "small.png")
    assert opened(thumbnail(tmp_path, "small.png")).size == (20, 30)


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert opened(thumbnail(tmp_path, "clear.png")).getpixel((4, 4)) == (255, 255, 255)


def test_no_path_leads_out_of_the_root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    draw_pictures(tmp_path, 1)
    assert thumbnail(tmp_path, "0.png") is not None
    (root / "link.png").symlink_to(tmp_path / "0.png")
    for path in ("../0.png", str(tmp_path / "0.png"), "link.png", "nul\0.png"):
        assert thumbnail(root, path) is None, path


def test_what_is_no_picture_is_left_out(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    draw_pictures(tmp_path, 1)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name in ("missing.png", "text.png", "folder.png", "half.png"):
        assert thumbnail(tmp_path, name) is None, name
