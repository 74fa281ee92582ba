"""The fast crop beside OpenCLIP's own transform, picture by picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw

from pipeline.clip.resizing import fast_crop
from pipeline.data.images import open_image
from pipeline.data.places import Place

ORIENTATION = 0x0112
SIZES = [(640, 480), (480, 640), (333, 517), (225, 224), (224, 224), (100, 80), (1001, 777)]
LARGE = [(4032, 3024), (3001, 2003), (1999, 4001), (6000, 1800)]


def scene(width: int, height: int) -> Image.Image:
    """Edges, slopes and some grain, as a photograph has them."""
    random = np.random.default_rng(width * height)
    coarse = random.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = random.integers(0, width), random.integers(0, height)
        colour = tuple(random.integers(0, 256, 3).tolist())
        draw.ellipse([x, y, x + width // 8, y + height // 8], fill=colour, outline="white")
    grain = random.normal(0, 4, (height, width, 1))
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def saved(folder: Path, picture: Image.Image, name: str = "x.jpg", **options) -> Place:
    path = folder / name
    picture.save(path, **options)
    return Place(path)


def configured(**change):
    return {**PreprocessCfg(size=224).__dict__, **change}


def both(place: Place, preprocess):
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    picture = open_image(place)
    for step in transform.transforms[:-2]:
        picture = step(picture)
    crop = fast_crop(preprocess)
    assert crop is not None
    return np.asarray(picture).astype(int), crop(place).astype(int)


def difference(place: Place, **change):
    theirs, ours = both(place, configured(**change))
    assert theirs.shape == ours.shape
    return np.abs(theirs - ours)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "change",
    [{}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}, {"size": (64, 64)}],
    ids=["bicubic", "bilinear", "squash", "small"],
)
def test_pictures_decoded_whole_are_two_levels_away_nearly_everywhere(tmp_path, size, change):
    # PNG: nothing is scaled as it is decoded, whatever the crop.
    found = difference(saved(tmp_path, scene(*size), "x.png"), **change)
    assert (found > 2).mean() < 0.005
    assert found.mean() < 0.25


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("change", [{}, {"resize_mode": "squash"}], ids=["shortest", "squash"])
def test_pictures_scaled_while_decoded_are_less_than_a_level_away(tmp_path, size, change):
    found = difference(saved(tmp_path, scene(*size), quality=90), **change)
    assert found.mean() < 1
    assert np.percentile(found, 99.9) <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(640, 480), (2401, 1805)])
def test_every_orientation_is_turned_as_for_openclip(tmp_path, size, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = difference(saved(tmp_path, scene(*size), exif=exif))
    assert found.mean() < 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_grey_cmyk_and_progressive_jpegs_are_read(tmp_path, mode, progressive):
    picture = scene(640, 480).convert(mode)
    found = difference(saved(tmp_path, picture, progressive=progressive))
    assert (found > 2).mean() < 0.005


def test_a_truncated_jpeg_is_an_error(tmp_path):
    buffer = io.BytesIO()
    scene(2400, 1800).save(buffer, "JPEG")
    path = tmp_path / "x.jpg"
    path.write_bytes(buffer.getvalue()[:-5000])
    crop = fast_crop(configured())
    assert crop is not None
    with pytest.raises(OSError, match="truncated"):
        crop(Place(path))


@pytest.mark.parametrize(
    "change", [{"resize_mode": "longest"}, {"interpolation": "random"}, {"size": (224, 336)}]
)
def test_other_transforms_have_no_fast_way(change):
    assert fast_crop(configured(**change)) is None
