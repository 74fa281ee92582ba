"""The cache saves work and changes nothing: where it is broken, locked, old or shared."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import facts_cache
from pipeline.data.facts import ImageFacts
from pipeline.data.facts_cache import KEPT, FactsCache, Reader
from pipeline.data.file_state import SETTLED_NS, State
from pipeline.data.inspection import Inspector, Request
from pipeline.params import Params, ValidateParams
from tests.drawing import ROOT, draw

RED = (200, 30, 30)
FACTS = ImageFacts("ab" * 32, 30, 20, "PNG", "RGB", 77.125, bytes(range(256)))


@pytest.fixture
def limits(defaults: Params) -> ValidateParams:
    return defaults.limits


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures that have not changed for a while, one of them cut, and a text; to read."""
    root = tmp_path_factory.mktemp("source")
    for i in range(12):
        draw(root / f"{i:02}.png", RED, seed=i, size=(24, 20))
    content = (root / "05.png").read_bytes()
    (root / "05.png").write_bytes(content[:200])
    (root / "06.png").write_text("I am no picture")
    settle(root)
    return root


REQUESTS: list[Request] = [(f"{i:02}.png", None, None) for i in range(12)]


def settle(root: Path) -> None:
    """Wait until a file's state says whether it changed: ctime can't be set back."""
    newest = max(path.stat().st_ctime_ns for path in root.iterdir())
    time.sleep(max(0.0, (newest + SETTLED_NS - time.time_ns()) / 1e9 + 0.05))


def look(root: Path, limits: ValidateParams, cache: Path | None) -> tuple[list[ImageFacts], bool]:
    """The facts, and whether any image was given to a worker."""
    with Inspector(root, limits, cache=cache, workers=1) as inspector:
        found = inspector.inspect(REQUESTS)
        return found, inspector._workers._pool is not None


def test_what_is_unchanged_is_not_read_again(
    source: Path, tmp_path: Path, limits: ValidateParams
) -> None:
    cache = tmp_path / "facts.sqlite"
    without, _ = look(source, limits, None)
    first, decoded = look(source, limits, cache)
    again, decoded_again = look(source, limits, cache)
    assert (decoded, decoded_again) == (True, False)
    assert without == first == again


def test_a_changed_file_is_read_again_even_with_its_old_size_and_time(
    source: Path, tmp_path: Path, limits: ValidateParams
) -> None:
    cache = tmp_path / "facts.sqlite"
    source = Path(shutil.copytree(source, tmp_path / "own"))
    settle(source)
    look(source, limits, cache)
    state = (source / "03.png").stat()
    other = bytearray((source / "03.png").read_bytes())
    other[-5] ^= 1
    (source / "03.png").write_bytes(other)
    os.utime(source / "03.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert look(source, limits, cache)[0] == look(source, limits, None)[0]


def test_a_file_that_just_changed_is_not_trusted(tmp_path: Path) -> None:
    """It may change again within the tick of its clock: git calls that racy."""
    now = time.time_ns()
    cache = FactsCache(tmp_path / "facts.sqlite")
    settled = State(100, now - 2 * SETTLED_NS, now - 2 * SETTLED_NS, 7, looked_ns=now)
    racy = settled._replace(mtime_ns=now - SETTLED_NS // 2)
    ahead = settled._replace(ctime_ns=now + 10 * SETTLED_NS)
    cache.add([("settled", settled, FACTS), ("racy", racy, FACTS), ("ahead", ahead, FACTS)])
    assert cache.known({"settled": settled, "racy": racy, "ahead": ahead}) == {"settled": FACTS}
    later = settled._replace(looked_ns=now + SETTLED_NS)
    assert cache.known({"settled": later}) == {"settled": FACTS}
    for change in ({"size": 1}, {"mtime_ns": 1}, {"ctime_ns": 1}, {"inode": 1}):
        assert cache.known({"settled": settled._replace(**change)}) == {}
    cache.close()


def test_a_moved_file_is_read_and_not_decoded(
    source: Path, tmp_path: Path, limits: ValidateParams
) -> None:
    """The cache is made to say something else of one content: what is looked up says it too."""
    cache = tmp_path / "facts.sqlite"
    source = Path(shutil.copytree(source, tmp_path / "own"))
    first, _ = look(source, limits, cache)
    kept = FactsCache(cache)
    told = first[0]._replace(brightness=1.5)
    kept.add([(None, State(0, 0, 0, 0, 0), told)])
    kept.close()
    (source / "00.png").rename(source / "moved.png")
    with Inspector(source, limits, cache=cache, workers=1) as inspector:
        assert inspector.inspect([("moved.png", None, None)]) == [told]


def test_facts_of_another_decoder_do_not_count(
    source: Path, tmp_path: Path, limits: ValidateParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "facts.sqlite"
    found, _ = look(source, limits, cache)
    monkeypatch.setattr(facts_cache.PIL, "__version__", "0.0")
    assert look(source, limits, cache) == (found, True)
    assert look(source, limits, cache) == (found, False)


def test_what_depends_on_machine_or_limits_is_not_kept(tmp_path: Path) -> None:
    cache = FactsCache(tmp_path / "facts.sqlite")
    state = State(1, 0, 0, 1, looked_ns=time.time_ns())
    for problem in ("image_decoder_crashed", "image_decoder_too_slow", "image_too_many_pixels"):
        cache.add([("a", state, ImageFacts(FACTS.image_id, problem=problem))])
        assert cache.known({"a": state}) == {}
    cut = ImageFacts(FACTS.image_id, problem="image_truncated", value="cut")
    cache.add([("a", state, cut)])
    assert cache.known({"a": state}) == {"a": cut}
    cache.close()


def garbled(path: Path, seed: int) -> None:
    """Overwrite some bytes of a file, past the first page or anywhere."""
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    start = 4096 if seed % 2 else 0
    for at in rng.integers(start, len(content), size=1 + 40 * (seed % 5)):
        content[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def test_a_garbled_cache_never_changes_what_is_found(
    source: Path, tmp_path: Path, limits: ValidateParams
) -> None:
    cache = tmp_path / "facts.sqlite"
    wanted, _ = look(source, limits, cache)
    good = cache.read_bytes()
    for seed in range(12):
        cache.write_bytes(good)
        garbled(cache, seed)
        assert look(source, limits, cache)[0] == wanted
        look(source, limits, cache)
        assert look(source, limits, cache) == (wanted, False), "a broken cache was not made anew"


@pytest.mark.parametrize("content", [b"no base" * 100, b"SQLite format 3\0" + b"\xff" * 5000, b""])
def test_a_file_that_is_no_cache_is_replaced_with_a_word(
    source: Path,
    tmp_path: Path,
    limits: ValidateParams,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
) -> None:
    cache = tmp_path / "facts.sqlite"
    cache.write_bytes(content)
    wanted, _ = look(source, limits, None)
    assert look(source, limits, cache) == (wanted, True)
    assert capsys.readouterr().err.count("\n") == (1 if content else 0)
    assert look(source, limits, cache) == (wanted, False)


def test_a_base_of_another_form_is_replaced(
    source: Path, tmp_path: Path, limits: ValidateParams
) -> None:
    cache = tmp_path / "facts.sqlite"
    with sqlite3.connect(cache) as base:
        base.execute("CREATE TABLE facts (image_id TEXT)")
    base.close()
    wanted, _ = look(source, limits, cache)
    assert look(source, limits, cache) == (wanted, False)


def test_a_cache_that_cannot_be_used_is_bypassed_with_a_word(
    source: Path,
    tmp_path: Path,
    limits: ValidateParams,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facts_cache, "_WAIT_S", 0.1)
    wanted, _ = look(source, limits, None)
    (tmp_path / "folder").mkdir()
    locked = tmp_path / "locked.sqlite"
    look(source, limits, locked)
    capsys.readouterr()
    holder = sqlite3.connect(locked, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for cache in (tmp_path / "folder", source / "00.png" / "facts.sqlite", locked):
        assert look(source, limits, cache) == (wanted, True)
        said = capsys.readouterr().err
        assert said.startswith(f"image facts are not kept: {cache}: ")
        assert said.count("\n") == 1
    holder.close()
    assert look(source, limits, locked) == (wanted, False)


def test_a_reader_of_nothing_knows_nothing(tmp_path: Path) -> None:
    assert Reader(tmp_path / "none.sqlite", b"").facts(FACTS.image_id) is None
    (tmp_path / "text.sqlite").write_text("no base" * 1000)
    reader = Reader(tmp_path / "text.sqlite", b"")
    assert [reader.facts(FACTS.image_id) for _ in range(2)] == [None, None]


def test_a_cache_locked_midway_is_left_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_cache, "_WAIT_S", 0.1)
    state = State(1, 0, 0, 1, looked_ns=time.time_ns())
    cache = FactsCache(tmp_path / "facts.sqlite")
    holder = sqlite3.connect(tmp_path / "facts.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for _ in range(3):
        cache.add([("a", state, FACTS)])
        assert cache.known({"a": state}) == {}
    cache.close()
    holder.close()
    assert capsys.readouterr().err.count("\n") == 1


ONE_OF_TWO = """
import sys
from pathlib import Path
from pipeline import params
from pipeline.data.inspection import Inspector
root, cache = map(Path, sys.argv[1:])
limits = params.load(params.Params).limits
for _ in range(4):
    with Inspector(root, limits, cache=cache, workers=1) as inspector:
        for i in range(12):
            print(inspector.inspect([(f"{i:02}.png", None, None)])[0])
"""


def test_two_processes_at_once_find_the_same(
    source: Path, tmp_path: Path, limits: ValidateParams
) -> None:
    wanted, _ = look(source, limits, None)
    command = [sys.executable, "-c", ONE_OF_TWO, source, tmp_path / "facts.sqlite"]
    both = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(2)
    ]
    said = [process.communicate() for process in both]
    assert said == [("".join(f"{facts}\n" for facts in wanted) * 4, "")] * 2
    assert look(source, limits, tmp_path / "facts.sqlite") == (wanted, False)


def test_what_no_run_asks_for_is_forgotten(tmp_path: Path) -> None:
    state = State(1, 0, 0, 1, looked_ns=time.time_ns())
    other = FACTS._replace(image_id="cd" * 32)
    cache = FactsCache(tmp_path / "facts.sqlite")
    cache.add([("used", state, FACTS), ("unused", state, other)])
    cache.close()
    for _ in range(KEPT + 1):
        cache = FactsCache(tmp_path / "facts.sqlite")
        assert cache.known({"used": state}) == {"used": FACTS}
        cache.close()
    with sqlite3.connect(tmp_path / "facts.sqlite") as base:
        assert base.execute("SELECT hex(image_id) FROM facts").fetchall() == [("AB" * 32,)]
        assert base.execute("SELECT file FROM files").fetchall() == [(b"used",)]
    base.close()


def test_above_its_size_only_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(1, 0, 0, 1, looked_ns=time.time_ns())
    cache = FactsCache(tmp_path / "facts.sqlite")
    cache.add([("old", state, FACTS)])
    cache.close()
    for _ in range(facts_cache.REFRESHED):
        FactsCache(tmp_path / "facts.sqlite").close()
    monkeypatch.setattr(facts_cache, "MAX_BYTES", 1)
    cache = FactsCache(tmp_path / "facts.sqlite")
    cache.add([("new", state, FACTS._replace(image_id="cd" * 32))])
    cache.close()
    cache = FactsCache(tmp_path / "facts.sqlite")
    assert list(cache.known({"old": state, "new": state})) == ["new"]
    cache.close()
