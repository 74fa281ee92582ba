"""2,000 images with something done to them: each gets facts or a reason, nothing else happens."""

import io
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.facts import ImageFacts
from pipeline.data.images import open_image
from pipeline.data.inspection import Inspector, Request
from pipeline.data.places import Place
from pipeline.params import Params

COUNT = 2000
PROBLEMS = {
    None, "image_empty", "image_truncated", "image_unreadable", "image_too_small",
    "image_too_narrow", "image_too_many_pixels", "image_mode_unsupported", "image_decoder_crashed",
}  # fmt: skip
PROFILE = bytes(range(256)) * 2

Mutation = Callable[[bytearray, np.random.Generator], bytearray]


def originals() -> list[bytes]:
    """Good pictures of all six formats, in several of their kinds, with EXIF and a profile."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = small.resize((64, 48), Image.Resampling.BICUBIC)
    sixteen = Image.fromarray(rng.integers(0, 65536, (48, 64), dtype=np.uint16))
    other = picture.rotate(180)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description" * 20
    told = {"exif": exif, "icc_profile": PROFILE}
    frames = {"save_all": True, "append_images": [other]}
    kinds = [
        ("JPEG", picture, told), ("JPEG", picture, {"progressive": True, **told}),
        ("JPEG", picture.convert("CMYK"), told), ("JPEG", picture.convert("L"), {}),
        ("JPEG", picture, {"restart_marker_rows": 1}),
        ("PNG", picture, told), ("PNG", picture.convert("P"), {"transparency": 3}),
        ("PNG", picture.convert("RGBA"), told), ("PNG", sixteen, {}), ("PNG", picture, frames),
        ("WEBP", picture, told), ("WEBP", picture.convert("RGBA"), {"lossless": True}),
        ("WEBP", picture, frames),
        ("GIF", picture, {}), ("GIF", picture, frames), ("GIF", picture.convert("1"), {}),
        ("BMP", picture, {}), ("BMP", picture.convert("P"), {}), ("BMP", picture.convert("1"), {}),
        ("TIFF", picture, told), ("TIFF", picture, {"compression": "tiff_lzw"}),
        ("TIFF", picture, {"compression": "jpeg"}), ("TIFF", sixteen, {}),
        ("TIFF", picture.convert("1"), {"compression": "group4"}),
        ("TIFF", picture.convert("CMYK"), {"compression": "tiff_adobe_deflate", **frames}),
    ]  # fmt: skip
    contents = []
    for kind, image, how in kinds:
        file = io.BytesIO()
        image.save(file, kind, **how)  # type: ignore[arg-type]
        contents.append(file.getvalue())
    return contents


def flipped(content: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(len(content), size=rng.choice([1, 4, 40])):
        content[at] ^= 1 << int(rng.integers(8))
    return content


def flipped_early(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Where the headers are."""
    for at in rng.integers(min(120, len(content)), size=3):
        content[at] = rng.integers(256)
    return content


def cut(content: bytearray, rng: np.random.Generator) -> bytearray:
    return content[: rng.integers(len(content))]


def another_magic(content: bytearray, rng: np.random.Generator) -> bytearray:
    magics = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0",
              b"MM\0*", b"RIFF\x10\0\0\0WEBPVP8 ", b"%!PS-Adobe-3.0 EPSF-3.0\n"]  # fmt: skip
    magic = magics[rng.integers(len(magics))]
    content[: len(magic)] = magic
    return content


def spliced(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A part taken out, repeated, or filled with one byte."""
    a, b = sorted(int(at) for at in rng.integers(len(content), size=2))
    b = min(b, a + 200)
    put = [b"", content[a:b] * 3, bytes([rng.integers(256)]) * (b - a)]
    content[a:b] = put[rng.integers(3)]
    return content


def described_badly(content: bytearray, rng: np.random.Generator) -> bytearray:
    """EXIF and profile of other bytes; where a PNG packs the profile, the packed bytes."""
    for mark, size in ((b"Exif\0\0", 60), (b"eXIf", 60), (b"EXIF", 60), (b"ICC_PROFILE", 300),
                       (b"iCCP", 60), (b"ICCP", 300), (PROFILE[:40], 200)):  # fmt: skip
        at = content.find(mark)
        if at >= 0:
            start = at + len(mark) + 4 + int(rng.integers(12))  # 4: the size, in a WebP
            for i in range(start, min(start + size, len(content))):
                if rng.random() < 0.3:
                    content[i] = rng.integers(256)
    return mended(content)


def huge(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A header that announces more than there is: a few pixels more, or a bomb."""
    width, height = (int(rng.choice([0, 1, 70, 5000, 20_000, 65_500, 2**31 - 1])) for _ in "wh")
    w16, h16 = width & 0xFFFF, height & 0xFFFF
    if content[:4] == b"\x89PNG":
        content[16:24] = struct.pack(">II", width, height)
        return mended(content)
    if content[:2] == b"BM":
        content[18:26] = struct.pack("<II", width, height)
    elif content[:3] == b"GIF":
        at = content.find(b"\x2c", 13) + 5 if rng.random() < 0.5 else 6
        content[at : at + 4] = struct.pack("<HH", w16, h16)
    elif content[:4] == b"RIFF" and content[12:16] == b"VP8X":
        size = (width & 0xFFFFFF).to_bytes(3, "little") + (height & 0xFFFFFF).to_bytes(3, "little")
        content[24:30] = size
    elif content[:2] == b"\xff\xd8":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            at = content.find(marker)
            if at > 0:
                content[at + 5 : at + 9] = struct.pack(">HH", h16, w16)
    else:
        for at in range(0, len(content) - 12, 2):
            tag, kind, many = struct.unpack("<HHI", content[at : at + 8])
            if tag in (256, 257) and kind in (3, 4) and many == 1:
                content[at + 2 : at + 12] = struct.pack(
                    "<HII", 4, 1, width if tag == 256 else height
                )
    return content


def mended(content: bytearray) -> bytearray:
    """A PNG with its checksums right again, so that what was changed is looked at."""
    at = 8
    while content[:4] == b"\x89PNG" and at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        content[end : end + 4] = zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return content


MUTATIONS: list[Mutation] = [
    flipped, flipped_early, cut, another_magic, spliced, described_badly, huge,
]  # fmt: skip


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Request]]:
    root = tmp_path_factory.mktemp("mutants")
    good = originals()
    for i in range(COUNT):
        rng = np.random.default_rng([7, i])
        mutate = MUTATIONS[i % len(MUTATIONS)]
        content = mutate(bytearray(good[rng.integers(len(good))]), rng)
        (root / f"{i:04}").write_bytes(content)
    return root, [(f"{i:04}", None, None) for i in range(COUNT)]


def look(
    mutants: tuple[Path, list[Request]], defaults: Params, *, workers: int
) -> tuple[list[ImageFacts], int]:
    """What is found, and the largest memory of a worker in bytes."""
    root, requests = mutants
    with Inspector(root, defaults.limits, cache=None, workers=workers) as inspector:
        found = inspector.inspect(requests)
        pool = inspector._workers._pool
        assert pool is not None
        said = [Path(f"/proc/{pid}/status").read_text() for pid in pool._processes]
    peaks = [line.split()[1] for text in said for line in text.splitlines() if "VmHWM" in line]
    return found, max(int(peak) for peak in peaks) * 1024


@pytest.mark.filterwarnings("ignore")
def test_each_mutant_gets_facts_or_a_reason_twice_the_same(
    mutants: tuple[Path, list[Request]], defaults: Params
) -> None:
    found, peak = look(mutants, defaults, workers=2)
    again, _ = look(mutants, defaults, workers=1)
    assert found == again
    assert peak < 1_500_000_000
    problems = Counter(facts.problem for facts in found)
    assert set(problems) <= PROBLEMS
    assert min(problems[None], problems["image_truncated"], problems["image_unreadable"]) > 100
    assert problems["image_too_many_pixels"] > 20
    root, requests = mutants
    for facts, (name, _, _) in zip(found, requests, strict=True):
        assert (facts.problem is None) == (facts.value is None)
        assert facts.value is None or str(root) not in facts.value
        if facts.problem is None:  # what is accepted opens in every later stage
            assert open_image(Place(root / name)).size == (facts.width, facts.height)


def test_a_bad_description_rejects_no_picture(tmp_path: Path, defaults: Params) -> None:
    """Of pictures whose EXIF and profile alone were overwritten, TIFFs apart: there the profile's
    tag stands among those that say where the pixels are."""
    good = [content for content in originals() if content[:2] not in (b"II", b"MM")]
    for i in range(300):
        rng = np.random.default_rng([8, i])
        content = described_badly(bytearray(good[i % len(good)]), rng)
        (tmp_path / f"{i:03}").write_bytes(content)
    with Inspector(tmp_path, defaults.limits, cache=None, workers=2) as inspector:
        found = inspector.inspect([(f"{i:03}", None, None) for i in range(300)])
    wrong = [(i, facts.value) for i, facts in enumerate(found) if facts.problem]
    assert wrong == []
