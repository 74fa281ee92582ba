import base64
import io

from PIL import Image

from pipeline.data.places import Place
from pipeline.reporting.thumbnails import thumbnail
from tests.reporting.synthetic import draw_pictures

START = "data:image/jpeg;base64,"


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(START))))


def test_the_longer_side_is_96_pixels(tmp_path):
    draw_pictures(tmp_path, 1)
    uri = thumbnail(Place(tmp_path / "0.png"))
    assert uri.startswith(START)
    assert opened(uri).size == (96, 48)
    assert uri == thumbnail(Place(tmp_path / "0.png"))


def test_a_picture_inside_another_file_is_shown(tmp_path):
    draw_pictures(tmp_path, 1)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "shard").write_bytes(b"before" + whole + b"after")
    inside = Place(tmp_path / "shard", 6, len(whole))
    assert thumbnail(inside) == thumbnail(Place(tmp_path / "0.png"))


def test_a_small_picture_is_not_blown_up(tmp_path):
    Image.new("L", (20, 30)).save(tmp_path / "small.png")
    assert opened(thumbnail(Place(tmp_path / "small.png"))).size == (20, 30)


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert opened(thumbnail(Place(tmp_path / "clear.png"))).getpixel((4, 4)) == (255, 255, 255)


def test_what_is_no_picture_is_left_out(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    draw_pictures(tmp_path, 1)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name in ("missing.png", "text.png", "folder.png", "half.png"):
        assert thumbnail(Place(tmp_path / name)) is None, name
    assert thumbnail(None) is None
