"""A claim to promote, as the text of a tag: who made it and when, and whether its maker is gone.

    hex:host:machine:process:start:time     of now
    hex:time                                earlier; nobody is named

The time is last in both, as earlier versions of this package read it.
"""

import os
import re
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from pipeline.tracking_session import state_and_start

STALE_S = 600.0
"""A promotion takes seconds between its claim and its last alias; one this old has died."""

NAMED = re.compile(
    r"[0-9a-f]+:(?P<host>[\w.-]*):(?P<machine>[^:]*):(?P<pid>\d{1,9}):(?P<start>\d+):\d+"
)
BOOT, SELF = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self")


@dataclass(frozen=True)
class Claim:
    """Who claimed, and when.

    Attributes:
        since: seconds since 1970.
        host: the machine's name, for people; empty: not named.
        machine: see `this_machine`; empty: not known.
        pid, start: the process, and when it began, in the kernel's ticks.
    """

    since: float
    host: str = ""
    machine: str = ""
    pid: int = 0
    start: str = ""

    def is_over(self) -> bool:
        """Whether its maker has died: seen here, elsewhere taken for granted after a while."""
        return time.time() - self.since >= STALE_S or self._is_gone()

    def _is_gone(self) -> bool:
        """Whether it was made on this machine, by a process that is not there any more."""
        if not self.machine or self.machine != this_machine():
            return False
        try:
            os.kill(self.pid, 0)  # also seen where /proc hides the processes of others
            state, start = state_and_start(self.pid)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return start != self.start or state in "ZX"

    def __str__(self) -> str:
        """Since when, who, and how long that counts where nobody sees whether it died."""
        who = f", process {self.pid} on {self.host}" if self.host else ""
        seen = self.machine and self.machine == this_machine()
        until = "" if seen else f"; should it have died, until {_clock(self.since + STALE_S)}"
        return f"since {_clock(self.since)}{who}{until}"


def made() -> str:
    """A claim of this process, of now; no two are the same."""
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())
    machine, pid = this_machine(), os.getpid()
    start = state_and_start(pid)[1] if machine else "0"
    return f"{uuid.uuid4().hex}:{host}:{machine}:{pid}:{start}:{time.time():.0f}"


def read(text: str) -> Claim:
    """A claim of either form; what is none was made long ago."""
    last = text.rpartition(":")[2]
    since = float(last) if re.fullmatch(r"\d{1,12}", last) else 0.0
    named = NAMED.fullmatch(text)
    if named is None:
        return Claim(since)
    return Claim(since, named["host"], named["machine"], int(named["pid"]), named["start"])


def this_machine() -> str:
    """What only processes that see each other share; empty: not known, as without a Linux kernel.

    Containers may share name and kernel: the namespace of their process ids tells them apart.
    """
    try:
        boot, pids = BOOT.read_text(encoding="ascii").strip(), (SELF / "ns/pid").readlink().name
        if SELF.readlink().name != str(os.getpid()):  # /proc is that of another namespace
            return ""
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {pids}".replace(":", "-")


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
