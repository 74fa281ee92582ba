"""The commands of others that a retraining runs: DVC, git and gh, told as they go."""

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import FrameType

from pipeline import paths
from pipeline.errors import DataError
from pipeline.lineage_secrets import redact
from pipeline.registry.processes import tools

KEPT = 200
"""Lines of a command's output that are looked through for what went wrong."""

OURS = "error: "
"""Before what a stage of ours says when it stops; more lines of it are indented as far."""

NAMED = re.compile(r"(?:Running stage|Stage) '([^']+)'")
"""How DVC names a stage that it runs, or finds current."""

TRACK = "To track the changes with git, run:\n"
ADD = "\tgit add "
ADVICE = (
    "To enable auto staging, run:\n",
    "\tdvc config core.autostage true\n",
    "Use `dvc push` to send your updates to remote storage.\n",
)
"""What DVC asks a person to do, and a retraining does itself."""


class CommandError(DataError):
    """What a command was for and what went wrong, in one line; `lines` are the same as it said it.

    The first line says what it was for. Lines that belong to the one above are indented.
    """

    def __init__(self, what: str, lines: Sequence[str], *, left: Path | None = None) -> None:
        """`lines`: what went wrong."""
        super().__init__(f"{what}: {_joined(lines)}", left=left)
        self.lines = [f"{what}:", *lines]


@dataclass(frozen=True)
class Said:
    """How a command ended, and the last lines of what it said.

    `stages` are those that DVC ran or found current, in order.
    """

    code: int
    lines: tuple[str, ...]
    stages: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """What went wrong, in one line."""
        return _joined(self.wrong)

    @property
    def wrong(self) -> list[str]:
        """What went wrong: a stage's own words before DVC's, and else the last line."""
        told = [line.rstrip() for line in self.lines if line.strip()]
        ours = [number for number, line in enumerate(told) if line.startswith(OURS)]
        if ours:
            first, *rest = told[ours[-1] :]
            more = takewhile(lambda line: line.startswith(" "), rest)
            return [
                first.removeprefix(OURS),
                *(line.removeprefix(" " * len(OURS)) for line in more),
            ]
        theirs = [line for line in told if line.startswith(("ERROR: ", "fatal: "))]
        if theirs:
            return [theirs[0].partition(": ")[2]]
        return [told[-1].strip() if told else "it said nothing"]

    @property
    def stage(self) -> str | None:
        """The stage that DVC ran last."""
        running = "Running stage '"
        ran = [line.partition(running)[2] for line in self.lines if running in line]
        return ran[-1].partition("'")[0] if ran else None

    @property
    def warnings(self) -> list[str]:
        """What stages warned of."""
        return [line.partition(": ")[2] for line in self.lines if line.startswith("warning: ")]

    def passed(self, stage: str) -> bool:
        """Whether DVC has run the stage to its end, or found it current."""
        return stage in self.stages and not (self.code and stage == self.stage)


def dvc(root: Path, *arguments: str) -> Said:
    """Run DVC in the work tree at `root`, show what it says, and wait.

    None of the tree's own modules is taken for one of DVC's. SIGTERM is passed on: the stage that
    runs sees DVC go, leaves its checkpoint and stops. Raises SystemExit then, and where the file
    that it should write to has gone.
    """
    return _shown([sys.executable, "-P", "-m", "dvc", *arguments], root)


def required(said: Said, what: str) -> Said:
    """What a command said, where it ended well.

    Else DataError with what went wrong, and the folder with what the failed stage had found.
    """
    if said.code:
        where = f" in the stage {said.stage}" if said.stage else ""
        left = paths.failed_folder(said.stage) if said.stage else None
        raise CommandError(f"{what} failed{where}", said.wrong, left=left)
    return said


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines)


def git(
    root: Path, *arguments: str, check: bool = True, environ: Mapping[str, str] | None = None
) -> str:
    """What a git command prints, stripped; DataError where it fails, unless not `check`: empty."""
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False,
        env=os.environ | {"GIT_TERMINAL_PROMPT": "0"} | dict(environ or {}),
    )  # fmt: skip
    if done.returncode and check:
        what = next(word for word in arguments if word != "-c" and "=" not in word)
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"git {what} failed: {redact(_refusal(said))}")
    return "" if done.returncode else done.stdout.rstrip("\n")


def _refusal(lines: Sequence[str]) -> str:
    """What a server, or a hook of it, says of a push; else git's last words, but for its hints."""
    told = [line.strip() for line in lines if line.strip() and not line.startswith("hint:")]
    reasons = [line for line in told if line.startswith(("remote: error:", "! ["))]
    return "; ".join(reasons[:2]) or (told[-1] if told else "it said nothing")


def _shown(command: Sequence[str], root: Path) -> Said:
    lines: deque[str] = deque(maxlen=KEPT)
    stages: list[str] = []
    environ = {k: v for k, v in os.environ.items() if k not in ("DVC_ROOT", "DVC_STAGE")}
    environ["PATH"] = tools()  # cron knows nothing of this Python's folder
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env=environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    with process, _passed_on(process) as stopped:
        for line in without_advice(process.stdout or ()):
            shown = redact(line)
            sys.stdout.write(shown)
            sys.stdout.flush()
            lines.append(shown.rstrip("\n"))
            stages += NAMED.findall(shown)
        code = process.wait()
    if stopped:
        sys.exit(128 + stopped[0])
    return Said(code, tuple(lines), tuple(dict.fromkeys(stages)))


def without_advice(lines: Iterable[str]) -> Iterator[str]:
    """The lines without those of DVC in ADVICE, and TRACK with the command that it names."""
    tracked = False
    for line in lines:
        if tracked and line == "\n":
            continue
        named = tracked and line.startswith(ADD)
        tracked = line == TRACK
        if not (tracked or named or line in ADVICE):
            yield line


@contextmanager
def _passed_on(process: "subprocess.Popen[str]") -> Iterator[list[int]]:
    """SIGTERM reaches the process, and is kept in the list; so is what is raised here."""
    stopped: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield stopped
    except BaseException:  # Ctrl-C, or nobody reads what is shown: the process must not go on alone
        with suppress(ProcessLookupError):
            process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
