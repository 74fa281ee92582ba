"""What the Inspector finds of files, and that neither its processes nor the machine show in it."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from looks import hostile, loaded, unlimited
from PIL import Image

from pipeline.artifacts import sha256_of
from pipeline.data.decoding import Task
from pipeline.data.facts import ImageFacts
from pipeline.data.inspection import Inspector, Request
from pipeline.data.signatures import SIZE
from pipeline.data.workers import Workers, worker_count
from pipeline.errors import ConfigError, DataError
from pipeline.params import Params, ValidateParams
from tests.drawing import ROOT, draw

RED = (200, 30, 30)


@pytest.fixture
def limits(defaults: Params) -> ValidateParams:
    return defaults.limits


def whole(*names: str) -> list[Request]:
    return [(name, None, None) for name in names]


def inspect(
    root: Path, requests: list[Request], limits: ValidateParams, *, workers: int = 1
) -> list[ImageFacts]:
    with Inspector(root, limits, cache=None, workers=workers) as inspector:
        return inspector.inspect(requests)


def bomb(path: Path) -> None:
    """A PNG of few bytes whose header announces 60,000 × 60,000 pixels."""
    Image.new("1", (8, 8)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def test_a_good_image_is_hashed_measured_and_marked(tmp_path: Path, limits: ValidateParams) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90°
    Image.new("L", (60, 40), 77).save(tmp_path / "a.jpg", exif=exif)
    (found,) = inspect(tmp_path, whole("a.jpg"), limits)
    assert (found.problem, found.value) == (None, None)
    assert (found.width, found.height) == (40, 60)
    assert (found.format, found.mode, found.brightness) == ("JPEG", "L", 77.0)
    assert found.image_id == sha256_of(tmp_path / "a.jpg")
    assert len(found.signature) == SIZE


def test_each_defect_has_its_reason_and_names_no_folder(
    tmp_path: Path, limits: ValidateParams
) -> None:
    """Did the value name one, the same source in another place would give other bytes."""
    draw(tmp_path / "whole.jpg", RED, size=(200, 200))
    picture = Image.open(tmp_path / "whole.jpg")
    for kind in ("jpg", "png", "webp", "gif", "bmp", "tiff"):
        picture.save(tmp_path / f"whole.{kind}")
        content = (tmp_path / f"whole.{kind}").read_bytes()
        (tmp_path / f"cut.{kind}").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("I am no picture")
    draw(tmp_path / "dot.png", RED, size=(1, 1))
    draw(tmp_path / "line.png", RED, size=(400, 20))
    draw(tmp_path / "png_named.png", RED, size=(40, 40))
    (tmp_path / "png_named.png").rename(tmp_path / "png_named.jpg")
    Image.new("F", (40, 40)).save(tmp_path / "float.tiff")
    bomb(tmp_path / "bomb.png")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "out.jpg").symlink_to("/etc/passwd")
    (tmp_path / "null.jpg").symlink_to("/dev/null")
    (tmp_path / "good.jpg").symlink_to("whole.jpg")
    wanted = {
        "cut.jpg": "image_truncated",
        "cut.png": "image_truncated",
        "cut.webp": "image_truncated",
        "cut.gif": "image_truncated",
        "cut.bmp": "image_truncated",
        "cut.tiff": "image_truncated",
        "empty.jpg": "image_empty",
        "text.jpg": "image_unreadable",
        "dot.png": "image_too_small",
        "line.png": "image_too_narrow",
        "bomb.png": "image_too_many_pixels",
        "float.tiff": "image_mode_unsupported",
        "png_named.jpg": None,
        "good.jpg": None,
        "none.jpg": "image_missing",
        "no/such/folder.jpg": "image_missing",
        "whole.jpg/a.jpg": "image_missing",
        "folder.jpg": "image_missing",
        "pipe.jpg": "image_missing",
        "loop.jpg": "image_missing",
        "a" * 300: "image_missing",
        "": "image_missing",
        ".": "image_missing",
        "out.jpg": "image_outside_root",
        "null.jpg": "image_outside_root",
        "../out.jpg": "image_outside_root",
        "..": "image_outside_root",
        "/etc/passwd": "image_outside_root",
        "a\0.jpg": "image_outside_root",
        "\0/a.jpg": "image_outside_root",
    }
    found = inspect(tmp_path, whole(*wanted), limits)
    assert {name: facts.problem for name, facts in zip(wanted, found, strict=True)} == wanted
    assert not [facts for facts in found if facts.value and str(tmp_path) in facts.value]
    said = dict(zip(wanted, (facts.value for facts in found), strict=True))
    assert said["text.jpg"] == "UnidentifiedImageError: cannot identify image file"
    assert said["bomb.png"] == "3600000000 pixels"
    assert said["float.tiff"] == "mode F"


def test_a_file_above_the_byte_limit_is_not_opened(tmp_path: Path, limits: ValidateParams) -> None:
    draw(tmp_path / "a.jpg", RED, size=(60, 40))
    size = (tmp_path / "a.jpg").stat().st_size
    strict = limits.model_copy(update={"max_bytes": size - 1})
    (found,) = inspect(tmp_path, whole("a.jpg"), strict)
    assert (found.problem, found.value) == ("image_too_many_bytes", f"{size} bytes")


def test_parts_of_a_file_and_packed_files(tmp_path: Path, limits: ValidateParams) -> None:
    draw(tmp_path / "a.jpg", RED, size=(60, 40))
    content = (tmp_path / "a.jpg").read_bytes()
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "0.tar").write_bytes(b"before" + content)
    requests: list[Request] = [("0.tar", 6, len(content)), ("0.tar", 6, 0), ("0.tar", 7, 10**6)]
    with Inspector(tmp_path / "elsewhere", limits, cache=None, workers=1) as inspector:
        good, empty, short = inspector.inspect(requests, packed=packed)
    assert good.image_id == sha256_of(tmp_path / "a.jpg")
    assert (empty.problem, short.problem) == ("image_empty", "image_truncated")
    with Inspector(tmp_path, limits, cache=None, workers=1) as inspector:
        (outside,) = inspector.inspect([("../a.jpg", None, None)], packed=packed)
    assert outside.problem == "image_outside_root"


def test_a_change_of_limits_is_all_that_changes(tmp_path: Path, limits: ValidateParams) -> None:
    """What is said under a limit must not depend on whether the picture was decoded before."""
    draw(tmp_path / "a.jpg", RED, size=(60, 40))
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("I am no picture")
    Image.new("F", (60, 40)).save(tmp_path / "float.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.png", exif=exif)
    requests = whole("a.jpg", "cut.jpg", "text.jpg", "float.tiff", "turned.png")
    strict = [
        limits.model_copy(update=update)
        for update in ({"max_pixels": 2399}, {"min_side": 41}, {"max_aspect": 1.4}, {})
    ]
    cache = tmp_path / "facts.sqlite"
    with Inspector(tmp_path, limits, cache=cache, workers=1) as inspector:
        inspector.inspect(requests)
    for one in strict:
        with Inspector(tmp_path, one, cache=cache, workers=1) as inspector:
            assert inspector.inspect(requests) == inspect(tmp_path, requests, one)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Request]]:
    """Some 200 requests: good pictures, broken ones, missing ones, some asked for twice."""
    root = tmp_path_factory.mktemp("many")
    names = []
    for i in range(150):
        draw(root / f"{i:03}.png", RED, seed=i, size=(24 + i % 7, 24))
        names += [f"{i:03}.png"] * (1 + i % 3 // 2)
        if i % 10 == 0:
            content = (root / f"{i:03}.png").read_bytes()
            (root / f"{i:03}.png").write_bytes(content[: 100 + i])
    return root, whole(*names, "none.png")


def test_any_number_of_workers_finds_the_same(
    many: tuple[Path, list[Request]], limits: ValidateParams
) -> None:
    root, requests = many
    found = [inspect(root, requests, limits, workers=count) for count in (1, 2, 3)]
    assert found[0] == found[1] == found[2]
    by_name = {request[0]: facts for request, facts in zip(requests, found[0], strict=True)}
    assert [by_name[request[0]] for request in requests] == found[0]
    assert sum(facts.problem == "image_truncated" for facts in by_name.values()) == 15


def test_workers_killed_from_outside_change_nothing(
    many: tuple[Path, list[Request]], limits: ValidateParams
) -> None:
    """As the system's killer does it when memory is short: no image is to blame."""
    root, requests = many
    wanted = inspect(root, requests, limits)
    me, ended, rounds = psutil.Process(), threading.Event(), []

    def kill() -> None:
        while not ended.wait(0.02) and len(rounds) < 3:
            with contextlib.suppress(psutil.Error):  # one may have ended by itself
                workers = [c for c in me.children() if is_worker(c)]
                for worker in workers:
                    worker.kill()
                rounds.extend([workers] if workers else [])

    killer = threading.Thread(target=kill)
    killer.start()
    with Inspector(root, limits, cache=None, workers=2) as inspector:
        found = [inspector.inspect(requests) for _ in range(3)]
    ended.set()
    killer.join()
    assert len(rounds) == 3
    assert found == [wanted] * 3


def is_worker(process: psutil.Process) -> bool:
    return "loky.backend.popen_loky" in " ".join(process.cmdline())


def test_a_decoder_that_crashes_or_hangs_costs_its_image_alone(
    many: tuple[Path, list[Request]],
) -> None:
    root, requests = many
    paths = [str(root / name) for name, _, _ in requests[:80]]
    paths[5], paths[40], paths[41] = "crash.jpg", "hang.jpg", "exit.jpg"
    tasks = [Task(path, None, None) for path in paths]
    with Workers(max_pixels=10**6, cache=None, count=2, patience_s=2.0, look=hostile) as workers:
        found = list(workers.examine(tasks))
    with Workers(max_pixels=10**6, cache=None, count=1) as workers:
        wanted = list(workers.examine(tasks))
    problems = {i: found[i].problem for i in (5, 40, 41)}
    assert problems == {
        5: "image_decoder_crashed", 40: "image_decoder_too_slow", 41: "image_decoder_crashed"
    }  # fmt: skip
    rest = [i for i in range(80) if i not in problems]
    assert [found[i] for i in rest] == [wanted[i] for i in rest]


def test_the_alarm_ends_a_worker_and_not_its_successor(tmp_path: Path) -> None:
    """The timer that ends it is real: here shorter than any decoding."""
    draw(tmp_path / "a.png", RED, size=(3000, 2000))
    tasks = [Task(str(tmp_path / "a.png"), None, None)]
    with Workers(max_pixels=10**8, cache=None, count=1, patience_s=0.002) as workers:
        (found,) = workers.examine(tasks)
    assert (found.problem, found.value) == ("image_decoder_too_slow", "over 0.002 s")


def test_where_no_worker_lives_no_image_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr("multiprocessing.spawn._python_exe", "/bin/false")
    with (
        Workers(max_pixels=10**6, cache=None, count=1, look=hostile) as workers,
        pytest.raises(DataError, match="CLIPTUNE_WORKERS"),
    ):
        list(workers.examine([Task("a.jpg", None, None)]))


def test_a_worker_is_light_and_bounded() -> None:
    with Workers(max_pixels=10**6, cache=None, count=1, look=loaded) as workers:
        (found,) = workers.examine([Task("a.jpg", None, None)])
    assert found.value == ""
    assert 3 * 10**9 < found.width < 8 * 10**9


def test_a_picture_beyond_the_memory_bound_is_rejected_not_fatal(tmp_path: Path) -> None:
    """60,000 × 60,000 under a limit that lets it pass: 3.6 GB, of which the worker gets 0.5."""
    bomb(tmp_path / "bomb.png")
    look_on = Task(str(tmp_path / "bomb.png"), None, None)
    with Workers(max_pixels=10**6, cache=None, count=1, look=unlimited) as workers:
        (found,) = workers.examine([look_on])
    assert found.problem == "image_decoder_crashed"


SCRIPT = """
import sys, time
from pathlib import Path
from pipeline.data.workers import Workers
from pipeline.data.decoding import Task
workers = Workers(max_pixels=10**6, cache=None, count=2)
list(workers.examine([Task(name, None, None) for name in sys.argv[1:]]))
print("ready", flush=True)
time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(many: tuple[Path, list[Request]]) -> None:
    root, requests = many
    paths = [str(root / name) for name, _, _ in requests[:40]]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *paths], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        below = psutil.Process(parent.pid).children(recursive=True)
        assert len(below) >= 2
        parent.kill()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []


def test_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPTUNE_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.delenv("CLIPTUNE_WORKERS")
    assert 1 <= worker_count() <= len(os.sched_getaffinity(0))
    for wrong in ("0", "-1", "many", "2.5"):
        monkeypatch.setenv("CLIPTUNE_WORKERS", wrong)
        with pytest.raises(ConfigError, match=wrong):
            worker_count()


def test_nothing_starts_where_nothing_is_decoded(tmp_path: Path, limits: ValidateParams) -> None:
    started = time.perf_counter()
    with Inspector(tmp_path, limits, cache=None, workers=1) as inspector:
        assert inspector.inspect([]) == []
        assert inspector.inspect(whole("none.jpg"))[0].problem == "image_missing"
        assert inspector._workers._pool is None
    assert time.perf_counter() - started < 5
