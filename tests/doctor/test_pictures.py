from pathlib import Path

import pytest
from PIL import Image

from pipeline.doctor import pictures
from pipeline.doctor.pictures import Wanted
from pipeline.doctor.settings import Settings


def file(name: str) -> Wanted:
    return Wanted(name, name, None, None, None)


def test_each_problem_has_the_name_that_validate_gives_it(
    settings: Settings, tmp_path: Path
) -> None:
    for name, size in (("fine", (90, 60)), ("small", (8, 8)), ("narrow", (900, 20))):
        Image.effect_noise(size, 50).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "fine.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    Image.new("F", (20, 20)).save(tmp_path / "float.tiff")
    inner = Wanted("inner", "pack", 3, len(whole), None)
    (tmp_path / "pack").write_bytes(b"xxx" + whole)
    wanted = [
        *map(file, ["fine.png", "small.png", "narrow.png", "cut.png", "empty.png", "text.png"]),
        *map(file, ["folder.png", "float.tiff", "gone.png", "../outside.png"]),
        inner,
        inner._replace(offset=10),
        Wanted("embedded", None, None, None, whole),
    ]
    found = pictures.inspect(wanted, tmp_path, settings.limits)
    assert [picture.name for picture in found] == [one.name for one in wanted]
    assert [picture.problem for picture in found] == [
        None,
        "image_too_small",
        "image_too_narrow",
        "image_truncated",
        "image_empty",
        "image_unreadable",
        "image_missing",
        "image_mode_unsupported",
        "image_missing",
        "image_outside_root",
        None,
        "image_unreadable",
        None,
    ]
    assert found[0][1:4] == found[-3][1:4] == found[-1][1:4] == (90, 60, len(whole))


def test_only_some_are_decoded_whole(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pictures of 1,000 pixels, two fit into 2,500."""
    Image.effect_noise((40, 25), 50).save(tmp_path / "fine.png")
    content = (tmp_path / "fine.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(pictures, "BUDGET", 2_500)
    found = pictures.inspect([file("cut.png")] * 4, tmp_path, settings.limits)
    truncated = "image_truncated"
    assert [picture.problem for picture in found] == [truncated, truncated, None, None]
