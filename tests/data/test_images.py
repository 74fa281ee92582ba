"""Each kind of picture that a user may bring, written by Pillow, numpy or by hand, read as RGB."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.data.facts import examine
from pipeline.data.images import ORIENTATION, UPRIGHT, UnsupportedModeError, inside, open_image
from pipeline.data.places import Place
from pipeline.data.signatures import signature
from tests.drawing import draw

RED = (200, 30, 30)
SIZE = (40, 30)
JPEG_LOSS = 12


def gradient() -> Image.Image:
    """A picture in which each pixel tells where it is."""
    y, x = np.mgrid[0:30, 0:40]
    return Image.fromarray(np.stack([x * 6, y * 8, x + y], axis=-1).astype(np.uint8))


def reread(path: Path, picture: Image.Image, **how: object) -> np.ndarray:
    picture.save(path, **how)  # type: ignore[arg-type]
    return pixels(path)


def pixels(path: Path) -> np.ndarray:
    picture = open_image(Place(path))
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def png(samples: np.ndarray, *, colour: int, chunks: Sequence[bytes] = ()) -> bytes:
    """A 16-bit PNG of (H, W) or (H, W, C) samples; `colour` is its colour type."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_jpeg_gives_what_pillow_gives(tmp_path: Path, mode: str) -> None:
    found = reread(tmp_path / "a.jpg", gradient().convert(mode))
    with Image.open(tmp_path / "a.jpg") as picture:
        assert np.array_equal(found, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.tiff"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, name: str) -> None:
    how = {"lossless": True} if name == "a.webp" else {}
    assert np.array_equal(reread(tmp_path / name, gradient(), **how), np.asarray(gradient()))


@pytest.mark.parametrize(("mode", "name"), [("1", "a.png"), ("P", "a.gif"), ("P", "a.png")])
def test_one_bit_and_palette(tmp_path: Path, mode: str, name: str) -> None:
    reduced = gradient().convert(mode)
    wanted = np.asarray(reduced.convert("RGB"))
    assert np.array_equal(reread(tmp_path / name, reduced), wanted)


@pytest.mark.parametrize("name", ["a.jpg", "a.tiff"])
def test_cmyk(tmp_path: Path, name: str) -> None:
    """JPEGs of CMYK are inverted as Adobe does it: were that missed, white would be black."""
    white_and_red = Image.new("RGB", SIZE, "white")
    white_and_red.paste((255, 0, 0), (0, 0, 20, 30))
    found = reread(tmp_path / name, white_and_red.convert("CMYK"))
    assert np.abs(found - np.asarray(white_and_red)).max() <= JPEG_LOSS


def test_ycck(tmp_path: Path) -> None:
    """As Photoshop writes it: Adobe's marker says transform 2. Neutral chroma stays neutral."""
    Image.new("CMYK", SIZE, (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    at = content.index(b"Adobe") + 11
    (tmp_path / "a.jpg").write_bytes(content[:at] + b"\x02" + content[at + 1 :])
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.info["adobe_transform"] == 2
    assert pixels(tmp_path / "a.jpg").shape == (30, 40, 3)


def test_lab(tmp_path: Path) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(gradient(), to_lab)
    assert lab is not None
    assert lab.mode == "LAB"
    assert np.abs(reread(tmp_path / "a.tiff", lab) - np.asarray(gradient())).mean() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)
    found = reread(tmp_path / name, Image.fromarray(values))
    assert np.array_equal(found, np.repeat((values >> 8)[..., None], 3, axis=-1))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)])
def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path, colour: int, channels: int) -> None:
    values = np.linspace(0, 65535, 1200 * 3).astype(np.uint16).reshape(30, 40, 3)
    opaque = np.concatenate([values, np.full((30, 40, 1), 65535, np.uint16)], axis=-1)
    (tmp_path / "a.png").write_bytes(png(opaque[..., :channels], colour=colour))
    assert np.array_equal(pixels(tmp_path / "a.png"), values >> 8)


def test_12_bit_tiff_is_scaled_by_its_own_range(tmp_path: Path) -> None:
    values = np.array([0, 0x7FF, 0xFFF, 0x100], np.uint16)
    packed = bytes([0x00, 0x07, 0xFF, 0xFF, 0xF1, 0x00])
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (279, 6)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 14) + packed
    (tmp_path / "a.tiff").write_bytes(
        head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    )
    assert pixels(tmp_path / "a.tiff")[0, :, 0].tolist() == (values >> 4).tolist()


@pytest.mark.parametrize("values", [np.array([[0, 40_000]]), np.array([[0, 255]])])
def test_32_bit_integers_that_fit_16_bits_are_read_as_16(
    tmp_path: Path, values: np.ndarray
) -> None:
    found = reread(tmp_path / "a.tiff", Image.fromarray(values.astype(np.int32)))
    assert found[0, :, 0].tolist() == (values[0] >> 8).tolist()


@pytest.mark.parametrize(
    ("values", "mode"),
    [(np.array([[0.5, 2.0]], np.float32), "F"), (np.array([[0, 70_000]], np.int32), "I")],
)
def test_what_no_rule_maps_is_rejected_by_name(
    tmp_path: Path, values: np.ndarray, mode: str
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(UnsupportedModeError, match=f"^{mode}$"):
        open_image(Place(tmp_path / "a.tiff"))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composed_on_white(tmp_path: Path, name: str, mode: str) -> None:
    picture = Image.new("RGBA", SIZE, (100, 100, 100, 255))
    picture.paste((100, 100, 100, 0), (0, 0, 20, 30))
    picture.paste((100, 100, 100, 51), (20, 0, 30, 30))
    how = {"lossless": True, "exact": True} if name == "a.webp" else {}
    found = reread(tmp_path / name, picture.convert(mode), **how)
    assert [found[0, x, 0] for x in (0, 25, 39)] == [255, 255 - 155 // 5, 100]


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_transparent_palette_colour_is_white(tmp_path: Path, name: str) -> None:
    picture = Image.new("P", SIZE, 1)
    picture.putpalette([0, 0, 200, 200, 30, 30])
    picture.paste(0, (0, 0, 20, 30))
    found = reread(tmp_path / name, picture, transparency=0)
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 39].tolist() == [200, 30, 30]


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3)])
def test_a_transparent_colour_of_16_bits_is_white(
    tmp_path: Path, colour: int, channels: int
) -> None:
    values = np.full((30, 40, channels), 0x1234, np.uint16)
    values[:, 20:] = 0x8000
    see_through = chunk(b"tRNS", struct.pack(">H", 0x1234) * channels)
    (tmp_path / "a.png").write_bytes(png(values, colour=colour, chunks=[see_through]))
    found = pixels(tmp_path / "a.png")
    assert (found[0, 0, 0], found[0, 39, 0]) == (255, 0x80)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_of_several_frames_the_first_is_taken(tmp_path: Path, name: str) -> None:
    first, second = Image.new("RGB", SIZE, "white"), Image.new("RGB", SIZE, "black")
    found = reread(tmp_path / name, first, save_all=True, append_images=[second])
    with Image.open(tmp_path / name) as picture:
        assert getattr(picture, "n_frames", 1) == 2
    assert found.min() >= 250


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
def test_a_picture_is_turned_upright(tmp_path: Path, name: str, orientation: int) -> None:
    """The camera's side of the same rules: what lies as the tag says stands as we saw it."""
    stored = gradient()
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    if orientation > 1:
        stored = stored.transpose(back.get(orientation, UPRIGHT[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"lossless": True} if name == "a.webp" else {}
    found = reread(tmp_path / name, stored, exif=exif, quality=95, **how)
    assert found.shape == (30, 40, 3)
    assert np.abs(found - np.asarray(gradient())).mean() <= (3 if name == "a.jpg" else 0)


BROKEN_EXIF = [
    b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 40,
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0",
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f\x06\0\0\0\0\0\0\0",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("exif", BROKEN_EXIF)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_broken_exif_leaves_the_picture_as_it_is(tmp_path: Path, name: str, exif: bytes) -> None:
    how = {"lossless": True} if name == "a.webp" else {}
    found = reread(tmp_path / name, gradient(), exif=exif, **how)
    assert np.abs(found - np.asarray(gradient())).mean() <= 9


@pytest.mark.parametrize("profile", [b"no profile", b"\xff" * 200, b"\0" * 128 + b"acsp"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
def test_a_broken_profile_is_left_alone(tmp_path: Path, name: str, profile: bytes) -> None:
    how = {"lossless": True} if name == "a.webp" else {}
    found = reread(tmp_path / name, gradient(), icc_profile=profile, **how)
    assert np.abs(found - np.asarray(gradient())).mean() <= 9


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"iCCP", b"name\0\0" + zlib.compress(b"\0" * 200_000_000)),
        chunk(b"iCCP", b"name\0\0 no zlib")[:-1] + b"?",
        chunk(b"zTXt", b"note\0\0" + zlib.compress(b"\0" * 200_000_000)),
        chunk(b"eXIf", b"\xff")[:-1] + b"?",
    ],
    ids=["profile of 200 MB", "profile's checksum", "text of 200 MB", "EXIF's checksum"],
)
def test_what_describes_a_png_does_not_reject_it(tmp_path: Path, broken: bytes) -> None:
    file = io.BytesIO()
    gradient().save(file, "PNG")
    content = file.getvalue()
    (tmp_path / "a.png").write_bytes(content[:33] + broken + content[33:])
    assert np.array_equal(pixels(tmp_path / "a.png"), np.asarray(gradient()))


def test_a_part_of_a_file_is_a_picture(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", RED, size=SIZE)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.tar").write_bytes(b"before" + content + b"after")
    part = open_image(Place(tmp_path / "b.tar", 6, len(content)))
    assert np.array_equal(np.asarray(part), pixels(tmp_path / "a.jpg"))


@pytest.mark.parametrize("content", [b"", b"I am no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture_is_an_oserror(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(OSError, match="cannot identify"):
        open_image(Place(tmp_path / "a.jpg"))


def test_a_link_out_of_the_root_is_outside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    draw(tmp_path / "secret.jpg", RED, size=SIZE)
    (tmp_path / "root" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    assert inside(tmp_path / "root", "link.jpg") is None
    assert inside(tmp_path / "root", "sub/../a.jpg") == (tmp_path / "root" / "a.jpg").resolve()


def photograph() -> Image.Image:
    """640×480 with detail in every block."""
    noise = np.random.default_rng(0).integers(-20, 21, (480, 640, 3))
    soft = np.asarray(gradient().resize((640, 480), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(soft + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_reduced_jpeg_tells_of_the_whole_picture(progressive: bool) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stream = io.BytesIO()
    photograph().save(stream, "JPEG", quality=80, exif=exif, progressive=progressive)
    facts = examine(stream.getvalue(), "id", max_pixels=10**6)
    assert (facts.width, facts.height) == (480, 640)
    whole = signature(photograph().transpose(Image.Transpose.ROTATE_270))
    levels = np.frombuffer(facts.signature, np.uint8).astype(int) - np.frombuffer(whole, np.uint8)
    assert np.abs(levels).max() <= 8
    assert np.abs(levels).mean() < 1


@pytest.mark.parametrize("progressive", [False, True])
def test_a_reduced_jpeg_breaks_where_the_whole_one_does(progressive: bool) -> None:
    """Cut anywhere, to the last byte of the picture, and with bytes overwritten."""
    stream = io.BytesIO()
    photograph().save(stream, "JPEG", quality=80, progressive=progressive)
    content = stream.getvalue()
    cuts = [content[: len(content) * k // 40] for k in range(1, 40)]
    cuts += [content[:-k] for k in (1, 2, 3, 4, 64)]
    rng = np.random.default_rng(0)
    for _ in range(60):
        at = int(rng.integers(600, len(content) - 8))
        cuts.append(content[:at] + rng.bytes(8) + content[at + 8 :])
    for cut in cuts:
        assert (examine(cut, "id", max_pixels=10**6).problem is None) == whole_decodes(cut)
    assert sum(examine(cut, "id", max_pixels=10**6).problem is not None for cut in cuts) > 40


def whole_decodes(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
    except OSError:
        return False
    return True
