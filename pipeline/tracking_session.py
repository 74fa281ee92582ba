"""Which DVC execution a stage belongs to, and how a stage stops when that execution ends.

All stages of one `dvc repro` or `dvc exp run` share one DVC process above them. Host, process id
and start of that process name the execution: no wrapper command, no file to leave behind.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish", "env", "nice", "time", "timeout", "uv"}

POLL = 1.0
"""Seconds between two looks at the DVC process."""


@dataclass(frozen=True)
class Session:
    """An execution: its name, and its DVC process (None: the stage was started by hand)."""

    name: str
    dvc: psutil.Process | None


def current_session() -> Session:
    """The execution that this process belongs to; a stage started by hand is its own."""
    dvc = _dvc_above(psutil.Process()) if "DVC_STAGE" in os.environ else None
    return Session(_name(dvc or psutil.Process()), dvc)


def has_ended(session: str) -> bool:
    """Whether an execution ran on this host and is over; False where that can't be told."""
    return _lives(session) is False


def still_runs(session: str) -> bool:
    """Whether an execution runs on this host; False where that can't be told."""
    return _lives(session) is True


def _lives(session: str) -> bool | None:
    """None: it ran on another host."""
    host, _, rest = session.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return None
    try:
        return _name(psutil.Process(int(rest))) == session
    except psutil.Error:
        return False


def _dvc_above(process: psutil.Process) -> psutil.Process | None:
    """The nearest ancestor that is called dvc; else (DVC used as a library) that is no shell."""
    parents = process.parents()
    for parent in parents:
        with suppress(psutil.Error):
            words = [Path(word).name for word in parent.cmdline()[:3]]
            if "dvc" in words or "dvc.exe" in words:
                return parent
    for parent in parents:
        with suppress(psutil.Error):
            if parent.name() not in SHELLS:
                return parent
    return None


def _name(process: psutil.Process) -> str:
    """host:pid:start. The start is in the kernel's ticks where there are any: a clock that is set
    right in the middle of an execution moves psutil's wall-clock time.
    """
    try:
        start = state_and_start(process.pid)[1]
    except OSError:
        start = str(int(process.create_time()))
    return f"{socket.gethostname()}:{process.pid}:{start}"


def state_and_start(pid: int) -> tuple[str, str]:
    """The state of a process as one letter, and its start in ticks since the kernel's own.

    Raises OSError where /proc shows no such process.
    """
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], fields[19]


@contextmanager
def stoppable(dvc: psutil.Process | None) -> Iterator[threading.Event]:
    """Turn SIGTERM, SIGHUP and the end of DVC into SystemExit; the event yielded says it came.

    A killed DVC leaves its stage running, and the next `dvc repro` would start beside it.
    """
    told = threading.Event()
    over = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        if not told.is_set():  # a second signal must not cut the farewell short
            told.set()
            raise SystemExit(128 + number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asks to live on
                previous[number] = signal.signal(number, stop)
    if dvc is not None:
        threading.Thread(target=_watch, args=(dvc, over), name="watch-dvc", daemon=True).start()
    try:
        yield told
    finally:
        over.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _watch(dvc: psutil.Process, over: threading.Event) -> None:
    while not over.wait(POLL):
        try:
            gone = not dvc.is_running() or dvc.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            gone = True
        if gone:
            sys.stderr.write("DVC has ended: this stage stops too\n")
            os.kill(os.getpid(), signal.SIGTERM)
            return
