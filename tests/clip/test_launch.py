"""Processes that are started together end together, and say why."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.clip import launch
from pipeline.errors import DataError
from tests.drawing import ROOT

Script = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Makes a module of some lines, which know their `rank`, and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")

    def make(lines: str) -> str:
        head = "import os, signal, sys, time\nfrom pathlib import Path\nrank = os.environ['RANK']\n"
        Path("work.py").write_text(head + textwrap.dedent(lines))
        return "work"

    yield make
    assert [p for p in psutil.Process().children() if "work" in p.cmdline()] == []


def test_each_learns_which_one_it_is(script: Script) -> None:
    names = ("WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    module = script(f"Path(rank).write_text(' '.join(os.environ[n] for n in {names}))")
    calls: list[int] = []
    assert launch.run(module, count=3, meanwhile=lambda: calls.append(1)) is None
    assert [Path(rank).read_text() for rank in "012"] == ["3 0 3", "3 1 3", "3 2 3"]
    assert calls


def test_one_that_is_killed_ends_the_others(script: Script) -> None:
    module = script("""
        if rank == "1":
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    """)
    lost = launch.run(module, count=2)
    assert lost is not None
    assert lost.what.startswith("process 1 of 2 was killed (SIGKILL")
    assert lost.error is None


def test_one_that_fails_is_named_by_what_it_ended_with(script: Script) -> None:
    lost = launch.run(script("sys.exit(int(rank) * 7)"), count=2)
    assert lost == launch.Lost("process 1 of 2 ended with 7", None)


def test_an_error_of_the_user_comes_back_as_it_was(script: Script) -> None:
    module = script("""
        from pipeline.clip.launch import reported
        from pipeline.errors import DataError
        with reported():
            raise DataError("row 7 is wrong", left=Path("left"))
    """)
    lost = launch.run(module, count=1)
    assert lost is not None
    assert isinstance(lost.error, DataError)
    assert (str(lost.error), lost.error.left) == ("row 7 is wrong", Path("left"))


def test_without_somebody_who_reads_it_an_error_stays_one() -> None:
    with pytest.raises(DataError, match="row 7"), launch.reported():
        raise DataError("row 7 is wrong")


def test_they_get_time_to_end_when_this_process_is_told_to(script: Script) -> None:
    module = script("""
        def stop(number, _):
            time.sleep(0.5)
            Path(f"stopped{rank}").touch()
            sys.exit(1)
        signal.signal(signal.SIGTERM, stop)
        Path(f"ready{rank}").touch()
        time.sleep(600)
    """)

    def meanwhile() -> None:
        if Path("ready0").exists() and Path("ready1").exists():
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        launch.run(module, count=2, meanwhile=meanwhile)
    assert Path("stopped0").exists()
    assert Path("stopped1").exists()


def test_one_that_does_not_end_is_killed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "STOP_S", 0.5)
    module = script("""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path("ready").touch()
        time.sleep(600)
    """)

    def meanwhile() -> None:
        if Path("ready").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.run(module, count=1, meanwhile=meanwhile)


def test_they_end_when_who_started_them_is_killed_outright(script: Script) -> None:
    module = script("""
        from pipeline.clip.launch import end_with_parent
        end_with_parent()
        Path(f"{rank}.part").write_text(str(os.getpid()))
        Path(f"{rank}.part").rename(f"{rank}.pid")
        time.sleep(600)
    """)
    code = f"from pipeline.clip import launch; launch.run('{module}', count=2)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    files = [Path(f"{rank}.pid") for rank in (0, 1)]
    wait_for(lambda: all(file.exists() for file in files))
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(psutil.pid_exists(int(file.read_text())) for file in files))


def wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)
