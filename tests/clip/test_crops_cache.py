"""Crops on disk: the same bytes, whatever was killed, torn, shared or thrown away."""

import json
import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.artifacts import sha256_of, sha256_text
from pipeline.clip import crops_cache, crops_segment, pixels
from pipeline.clip.crops_cache import CropsCache, how, open_cache
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.places import Place, Places, places_below
from pipeline.errors import ConfigError, DataError
from tests.drawing import ROOT

KEY = {"preprocess": {"size": 8}, "pillow": "1"}
Disk = namedtuple("Disk", ["total", "used", "free"])


def crop(number: int, *, side: int = 8) -> crops_segment.Crop:
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


def id_of(number: int) -> str:
    return sha256_text(str(number))


IDS = [id_of(number) for number in range(100)]


def filled(root: Path, numbers: range, *, key: dict[str, Any] = KEY) -> CropsCache:
    cache = CropsCache(root, key, wanted=IDS)
    for number in numbers:
        cache.add(IDS[number], crop(number))
    cache.flush()
    return cache


def segments_of(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.arrow"))


def places_of(source: Path) -> Places:
    rows = pd.read_csv(source / "captions.csv")
    ids = [sha256_of(source / image) for image in rows.image]
    return places_below(rows.assign(image_id=ids), source)


def test_what_was_kept_comes_back_in_another_run(tmp_path: Path) -> None:
    filled(tmp_path, range(20))
    again = CropsCache(tmp_path, KEY, wanted=IDS)
    assert len(again) == 20
    for number in range(20):
        found = again.get(IDS[number])
        assert found is not None
        assert np.array_equal(found, crop(number))
    assert again.get(IDS[20]) is None
    assert len(CropsCache(tmp_path, KEY, wanted=IDS[:3])) == 3


def test_another_way_of_making_crops_has_another_cache(tmp_path: Path) -> None:
    filled(tmp_path, range(3))
    assert len(CropsCache(tmp_path, {**KEY, "pillow": "2"}, wanted=IDS)) == 0
    keys = {json.loads(file.read_text())["pillow"] for file in tmp_path.glob("*/key.json")}
    assert keys == {"1", "2"}


def test_the_key_names_what_decides_a_pixel(tiny: Clip) -> None:
    key = how(tiny)
    assert key["preprocess"] == tiny.config["preprocess_cfg"]
    assert {"size", "mean", "interpolation", "resize_mode"} <= key["preprocess"].keys()
    assert key["code"] == [
        sha256_of(ROOT / "pipeline" / name) for name in ("clip/model.py", "data/images.py")
    ]
    assert {"pillow", "codecs", "libraries"} <= key.keys()


def test_a_second_run_decodes_nothing_and_sees_the_same(
    tmp_path: Path, tiny: Clip, pictures: Path
) -> None:
    places = places_of(pictures)
    ids = sorted(places)
    root = tmp_path / "crops"
    plain = Crops(tiny, places).batch(ids)
    for decoded in (len(ids), 0):
        crops = Crops(tiny, places, cache=open_cache(root, tiny, places))
        assert torch.equal(crops.batch(ids), plain)
        assert crops.decoded == decoded
        crops.flush()
    assert len(segments_of(root)) == 1


def test_an_epoch_that_memory_cannot_hold_decodes_nothing_either(
    tmp_path: Path, tiny: Clip, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "CACHE_SHARE", 0.0)
    places = places_of(pictures)
    ids = sorted(places)
    crops = Crops(tiny, places, cache=open_cache(tmp_path / "crops", tiny, places))
    first = crops.batch(ids)
    crops.flush()
    assert torch.equal(crops.batch(ids), first)
    assert crops.decoded == len(ids)


def test_pictures_that_are_expected_are_the_ones_that_come(
    tiny: Clip, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where memory has room for 3 ahead, and none to keep any."""
    places = places_of(pictures)
    ids = sorted(places)
    plain = Crops(tiny, places).batch(ids)
    monkeypatch.setattr(pixels, "CACHE_SHARE", 0.0)
    crops = Crops(tiny, places)
    monkeypatch.setattr(crops, "_most", 3)
    crops.expect(ids[:8])
    assert list(crops._coming) == ids[:3]
    assert torch.equal(crops.batch(ids[:2]), plain[:2])
    assert torch.equal(crops.batch(ids[:4]), plain[:4])
    assert crops.decoded == 4
    crops.expect(ids[2:4])
    assert list(crops._coming) == ids[2:4]
    assert torch.equal(crops.batch([*ids[3:1:-1], ids[3]]), plain[[3, 2, 3]])
    assert crops.decoded == 5
    assert crops.waited_s > 0
    crops.expect(())
    assert not crops._coming


def test_a_picture_that_is_gone_is_told_when_it_is_asked_for(tiny: Clip, pictures: Path) -> None:
    places = places_of(pictures)
    ids = sorted(places)
    places[ids[1]].path.write_bytes(b"\xff\xd8 no picture")
    crops = Crops(tiny, places)
    crops.expect(ids[:2])
    assert crops.batch(ids[:1]).shape == (1, 64, 64, 3)
    with pytest.raises(DataError, match=r"can't be decoded.*mend or remove it"):
        crops.batch(ids[:2])
    tar = pictures / "a.tar"
    tar.write_bytes(bytes(2000))
    places[ids[2]] = Place(tar, offset=512, length=1024)
    with pytest.raises(DataError, match=r"a\.tar, bytes 512 to 1,536 can't be decoded"):
        Crops(tiny, places).batch(ids[2:3])


def test_a_crop_under_a_false_id_never_reaches_the_disk(
    tmp_path: Path, tiny: Clip, pictures: Path
) -> None:
    """A file that changed since its id was made, and ids that are no hashes at all."""
    places = places_of(pictures)
    ids = sorted(places)
    places[ids[0]], places["images/00.jpg"] = places[ids[1]], places[ids[1]]
    crops = Crops(tiny, places, cache=open_cache(tmp_path / "crops", tiny, places))
    crops.batch([*ids, "images/00.jpg"])
    crops.flush()
    again = open_cache(tmp_path / "crops", tiny, places)
    assert again is not None
    assert len(again) == len(ids) - 1
    assert again.get(ids[0]) is None


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99, -1])
def test_a_torn_segment_goes_and_is_made_again(tmp_path: Path, kept: float) -> None:
    filled(tmp_path, range(20))
    (file,) = segments_of(tmp_path)
    content = file.read_bytes()
    length = int(len(content) * kept) if isinstance(kept, float) else kept
    file.write_bytes(content[:length])
    cache = CropsCache(tmp_path, KEY, wanted=IDS)
    assert len(cache) == 0
    assert cache.damaged == 1
    assert segments_of(tmp_path) == []
    assert len(filled(tmp_path, range(20))) == 20
    assert CropsCache(tmp_path, KEY, wanted=IDS).damaged == 0


@pytest.mark.parametrize("seed", range(8))
def test_no_damaged_byte_is_ever_taken_for_a_picture(tmp_path: Path, seed: int) -> None:
    """Anywhere: ids, checksums, pixels, Arrow's own parts. What comes is right, or absent."""
    filled(tmp_path, range(20))
    (file,) = segments_of(tmp_path)
    content = bytearray(file.read_bytes())
    for place in np.random.default_rng(seed).integers(0, len(content), 12):
        content[place] ^= 0xFF
    file.write_bytes(bytes(content))
    cache = CropsCache(tmp_path, KEY, wanted=IDS)
    wrong = lost = 0
    for number in range(20):
        found = cache.get(IDS[number])
        lost += found is None
        wrong += found is not None and not np.array_equal(found, crop(number))
    assert wrong == 0
    assert lost > 0


def test_zeros_that_a_lost_page_left_are_found(tmp_path: Path) -> None:
    filled(tmp_path, range(20))
    (file,) = segments_of(tmp_path)
    content = bytearray(file.read_bytes())
    at = content.index(crop(7).tobytes())
    content[at : at + 64] = bytes(64)
    file.write_bytes(bytes(content))
    cache = CropsCache(tmp_path, KEY, wanted=IDS)
    assert cache.get(IDS[7]) is None
    assert np.array_equal(cache.get(IDS[6]), crop(6))  # type: ignore[arg-type]
    assert not file.exists()


def test_a_killed_writer_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part without a name is no segment; it goes when it is a day old."""
    cache = filled(tmp_path, range(1))
    part = cache._folder / ".abc.part"
    part.write_bytes(b"half")
    filled(tmp_path, range(1, 2))
    assert part.exists()
    old = time.time() - 2 * crops_cache.ABANDONED_S
    os.utime(part, (old, old))
    filled(tmp_path, range(2, 3))
    assert not part.exists()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.clip.test_crops_cache import filled
first = int(sys.argv[2])
for start in range(first, first + 40, 5):
    filled(Path(sys.argv[1]), range(start, start + 5))
"""


def test_two_processes_at_once_are_safe(tmp_path: Path) -> None:
    """They share half of their pictures; one of them or both may have written a shared one."""
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path)]
    both = [subprocess.Popen([*command, str(first), str(ROOT)], cwd=ROOT) for first in (0, 20)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    cache = CropsCache(tmp_path, KEY, wanted=IDS)
    assert cache.damaged == 0
    for number in range(60):
        assert np.array_equal(cache.get(IDS[number]), crop(number))  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*/.*"))


def test_what_another_process_wrote_is_not_written_twice(tmp_path: Path) -> None:
    one, two = (CropsCache(tmp_path, KEY, wanted=IDS) for _ in range(2))
    for cache in (one, two):
        for number in range(10):
            cache.add(IDS[number], crop(number))
        cache.flush()
    assert len(segments_of(tmp_path)) == 1
    assert len(two) == 10


def test_a_segment_is_written_as_soon_as_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops_cache, "SEGMENT_BYTES", 10 * crop(0).nbytes)
    filled(tmp_path, range(25))
    sizes = sorted(len(crops_segment.mapped(file).ids) for file in segments_of(tmp_path))
    assert sizes == [5, 10, 10]


def with_room_for(monkeypatch: pytest.MonkeyPatch, root: Path, size: int) -> None:
    """A disk of which, without the crops below `root`, four times `size` would be free."""

    def usage(_: Path) -> Disk:
        used = sum(file.stat().st_size for file in segments_of(root))
        return Disk(0, 0, int(size / crops_cache.DISK_SHARE) - used)

    monkeypatch.setattr(crops_cache.shutil, "disk_usage", usage)


def test_beyond_its_share_of_the_disk_what_was_longest_unused_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in ((3, "oldest"), (2, "older"), (1, "young")):
        before = set(segments_of(tmp_path))
        filled(tmp_path, range(10), key={"name": name})
        (file,) = set(segments_of(tmp_path)) - before
        os.utime(file, (time.time() - age * 1000,) * 2)
    length = segments_of(tmp_path)[0].stat().st_size
    with_room_for(monkeypatch, tmp_path, int(3.5 * length))
    filled(tmp_path, range(10), key={"name": "new"})
    left = {
        name: len(CropsCache(tmp_path, {"name": name}, wanted=IDS))
        for name in ("oldest", "older", "young", "new")
    }
    assert left == {"oldest": 0, "older": 10, "young": 10, "new": 10}


def test_without_room_nothing_is_written_and_nothing_in_use_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, range(10))
    (file,) = segments_of(tmp_path)
    with_room_for(monkeypatch, tmp_path, file.stat().st_size)
    cache = filled(tmp_path, range(20))
    assert segments_of(tmp_path) == [file]
    assert len(cache) == 10


def test_a_disk_that_cannot_be_written_costs_no_run(
    tmp_path: Path,
    tiny: Clip,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crops_segment, "put", full)
    cache = filled(tmp_path, range(3))
    assert len(cache) == 0
    assert "3 crops are not kept on disk: [Errno 28]" in "".join(capsys.readouterr())
    (tmp_path / "file").write_text("no folder")
    assert open_cache(tmp_path / "file", tiny, {}) is None
    assert "crops are not kept on disk" in "".join(capsys.readouterr())


def test_it_can_be_switched_off(
    tmp_path: Path, tiny: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPTUNE_CROPS", "off")
    assert open_cache(tmp_path / "crops", tiny, {}) is None
    assert not (tmp_path / "crops").exists()
    monkeypatch.setenv("CLIPTUNE_CROPS", "on")
    with pytest.raises(ConfigError, match=r"CLIPTUNE_CROPS is 'on': set it to auto or off"):
        open_cache(tmp_path / "crops", tiny, {})
