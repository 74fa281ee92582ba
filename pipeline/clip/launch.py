"""Several processes of one machine that do one thing: started, watched and ended together.

torchrun does it on several machines. A process learns from the same variables which one it is
(RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE), so it need not know who started it.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from pipeline import errors
from pipeline.artifacts import read_json, write_json
from pipeline.errors import CliptuneError, ConfigError

VARIABLE = "CLIPTUNE_PROCESSES"

STOP_S = 60.0
"""For how long processes that were told to end may go on, as to write a checkpoint."""

LOST_S = 10.0
"""Likewise those that one of them has left: they can't finish anything together."""

POLL_S = 0.1

_MEET, _REPORT = "CLIPTUNE_MEET", "CLIPTUNE_REPORT"
_KINDS = {kind.__name__: kind for kind in CliptuneError.__subclasses__()}


class Lost(NamedTuple):
    """The process that ended too early, in words, and the error that it told, if it did."""

    what: str
    error: CliptuneError | None


def processes() -> int:
    """How many processes work on this machine; ConfigError for a number that is none."""
    asked = os.environ.get(VARIABLE, "")
    if asked:
        if not asked.isdigit() or int(asked) < 1:
            raise ConfigError(f"{VARIABLE} is {asked!r}: set it to 1 or more, or leave it")
        return int(asked)
    chosen = os.environ.get("CLIPTUNE_DEVICE")
    return max(torch.cuda.device_count(), 1) if not chosen else 1


def run(module: str, *, count: int, meanwhile: Callable[[], object] = lambda: None) -> Lost | None:
    """Run `python -m module` in `count` processes on this work tree; None: all ended well.

    `meanwhile` is called some times a second, and once when all have ended. Where one is lost, the
    others are ended. So they are when this process is told to end, with SIGTERM and STOP_S of time.
    """
    with tempfile.TemporaryDirectory() as name:
        started: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                command = [sys.executable, "-m", module]
                own = _environment(rank, count, Path(name))
                started.append(
                    subprocess.Popen(command, env=os.environ | own, stdin=subprocess.DEVNULL)
                )
            codes = _watched(started, meanwhile)
        except BaseException:
            _end(started, seconds=STOP_S)
            raise
        if any(codes):
            _end(started, seconds=LOST_S)
        meanwhile()
        return _lost(codes, Path(name)) if any(codes) else None


def joined_by() -> str:
    """Where the processes of this work meet, as `init_process_group` takes it."""
    return os.environ.get(_MEET, "env://")


def is_watched() -> bool:
    """Whether `run` started this process, so that somebody else tells what there is to tell."""
    return _REPORT in os.environ


@contextmanager
def reported() -> Iterator[None]:
    """A user's error goes to the process that started this one, where `run` did."""
    try:
        yield
    except CliptuneError as error:
        if not is_watched():
            raise
        left = None if error.left is None else str(error.left)
        told = {"kind": type(error).__name__, "message": str(error), "left": left}
        write_json(Path(os.environ[_REPORT]), told)
        raise SystemExit(1) from None


def end_with_parent() -> None:
    """From now on this process ends, as by SIGTERM, when the one that started it has gone.

    A torchrun or a stage that is killed outright can't tell its processes.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def _environment(rank: int, count: int, folder: Path) -> dict[str, str]:
    both = {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    sizes = {name: str(count) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    # A file, not a port: nobody else can take it first.
    own = {_MEET: f"file://{folder}/meet", _REPORT: str(folder / f"{rank}.json")}
    return both | sizes | own


def _watched(
    started: list[subprocess.Popen[bytes]], meanwhile: Callable[[], object]
) -> list[int | None]:
    """Exit codes as soon as one is not 0, or when all are."""
    while True:
        codes = [process.poll() for process in started]
        if any(codes) or None not in codes:
            return codes
        meanwhile()
        time.sleep(POLL_S)


def _end(started: list[subprocess.Popen[bytes]], *, seconds: float) -> None:
    try:
        for process in started:
            process.terminate()
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(process.poll() is None for process in started):
            time.sleep(POLL_S)
    finally:  # also after a second Ctrl-C
        for process in started:
            process.kill()
            process.wait()


def _lost(codes: list[int | None], folder: Path) -> Lost:
    """Of those that ended first, one that was killed, or else the first that told why."""
    ended = [(code, rank) for rank, code in enumerate(codes) if code]
    # Those that lose a companion end a moment later, and by themselves: a signal is the cause.
    code, rank = min(ended)
    what = f"process {rank} of {len(codes)} {_how(code)}"
    reports = [folder / f"{rank}.json" for rank in range(len(codes))]
    told = [read_json(report) for report in reports if report.is_file()]
    return Lost(what, _error(**told[0]) if told and code > 0 else None)


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL: the system does so where memory runs out)"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with {code}" + (" (a signal told it to)" if code > 128 else "")


def _error(*, kind: str, message: str, left: str | None) -> CliptuneError:
    return _KINDS.get(kind, errors.TrainingError)(
        message, left=None if left is None else Path(left)
    )
