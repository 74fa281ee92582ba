"""Decoding where the model computes: the same code on a CPU, where its decoder is libjpeg."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.clip import nvjpeg
from pipeline.clip.resizing import fast_crop, shape_of
from pipeline.data.places import Place
from tests.clip.test_resizing import ORIENTATION, both, configured, saved, scene

CPU = torch.device("cpu")


def items_of(places, preprocess):
    crop = fast_crop(preprocess)
    return [nvjpeg.encoded(place, crop) for place in places], crop


def cropped(places, device=CPU, **change):
    preprocess = configured(**change)
    items, crop = items_of(places, preprocess)
    return nvjpeg.crops(items, shape_of(preprocess), crop=crop, device=device)


@pytest.mark.parametrize(
    "device", [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)], ids=str
)
@pytest.mark.parametrize(
    "change", [{}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}, {"size": (64, 64)}]
)
def test_crops_are_openclips_but_for_a_level(tmp_path, device, change):
    for difference in differences(tmp_path, device, subsampling=0, **change):
        assert difference.mean() < 0.5
        assert (difference > 2).mean() < 0.01


@pytest.mark.gpu
def test_a_gpu_spreads_halved_chroma_otherwise(tmp_path):
    for difference in differences(tmp_path, torch.device("cuda"), subsampling=2):
        assert difference.mean() < 3


def differences(folder, device, *, subsampling, **change):
    sizes = [(640, 480), (333, 517), (224, 224), (100, 80), (1999, 1001)]
    places = [
        saved(folder, scene(*size), f"{i}.jpg", quality=95, subsampling=subsampling)
        for i, size in enumerate(sizes)
    ]
    found = cropped(places, device, **change).cpu().numpy().astype(int)
    for place, ours in zip(places, found, strict=True):
        theirs, _ = both(place, configured(**change))
        yield np.abs(theirs - ours)


def test_what_a_gpu_would_read_otherwise_is_decoded_here(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture = scene(640, 480)
    places = [
        saved(tmp_path, picture, "plain.jpg"),
        saved(tmp_path, picture, "turned.jpg", exif=exif),
        saved(tmp_path, picture.convert("CMYK"), "cmyk.jpg"),
        saved(tmp_path, picture, "other.png"),
        saved(tmp_path, picture.convert("L"), "grey.jpg"),
    ]
    items, crop = items_of(places, configured())
    assert [isinstance(item, nvjpeg.Encoded) for item in items] == [True, False, False, False, True]
    found = cropped(places).numpy()
    for at in (1, 2, 3):
        assert np.array_equal(found[at], crop(places[at]))


def test_what_the_decoder_refuses_goes_to_the_other_and_keeps_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(nvjpeg, "TOGETHER", 2)
    places = [saved(tmp_path, scene(90 + i, 80), f"{i}.jpg") for i in range(5)]
    decode, calls = nvjpeg.decode_jpeg, []

    def refusing(contents, mode, device):
        calls.append(len(contents))
        if len(calls) == 2:
            raise RuntimeError("unsupported")
        return decode(contents, mode, device=device)

    monkeypatch.setattr(nvjpeg, "decode_jpeg", refusing)
    preprocess = configured(size=(32, 32))
    items, crop = items_of(places, preprocess)
    found = nvjpeg.crops(items, shape_of(preprocess), crop=crop, device=CPU).numpy().astype(int)
    assert calls == [2, 2, 1]
    for place, ours in zip(places, found, strict=True):
        assert np.abs(ours - crop(place).astype(int)).mean() < 1
    assert np.array_equal(found[2], crop(places[2]))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0"])
def test_no_picture_is_an_error(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(OSError, match=r"\w"):
        cropped([Place(tmp_path / "x.jpg")])


def test_a_truncated_jpeg_is_an_error_of_one_picture(tmp_path):
    buffer = io.BytesIO()
    scene(640, 480).save(buffer, "JPEG")
    (tmp_path / "x.jpg").write_bytes(buffer.getvalue()[:-5000])
    with pytest.raises(OSError, match="truncated"):
        cropped([Place(tmp_path / "x.jpg")])
