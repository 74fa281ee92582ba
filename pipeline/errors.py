"""Every error a user can cause, and how a command reports it.

    CliptuneError            one message: what is wrong, where, what to do
    ├── ConfigError          params.yaml: a key, its value, the remedy
    ├── DataError            the source, its rows or its images
    ├── ModelError           a base model or a bundle that does not load
    ├── TrainingError        training can't go on (non-finite loss, too few rows)
    └── TrackingError        the tracking server, where the user asked to stop without one

A message is complete by itself: a command prints it without a traceback and exits with 1.
Anything else that is raised is a defect of ours and keeps its traceback.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pipeline.lineage_secrets import redact


class CliptuneError(Exception):
    """A mistake that the user can mend; its message says how.

    `left` is a folder with what was found before it, which a stage's run keeps.
    """

    def __init__(self, message: str, *, left: Path | None = None) -> None:
        """`message` is complete by itself."""
        super().__init__(message)
        self.left = left


class ConfigError(CliptuneError):
    """A key of params.yaml is unknown, of the wrong type, or impossible beside another."""


class DataError(CliptuneError):
    """The source can't be read, or what is left of it is not enough to go on."""


class ModelError(CliptuneError):
    """A model can't be found or loaded, or is not the one that params.yaml names."""


class TrainingError(CliptuneError):
    """Training can't start or can't go on."""


class TrackingError(CliptuneError):
    """The tracking server does not answer and the policy is to stop."""


def run(main: Callable[[], None]) -> None:
    """Run a command; report a `CliptuneError` as one message on stderr and exit with 1.

    Ctrl-C exits with 130, as a shell expects. Neither a message nor a traceback shows credentials.
    """
    sys.excepthook = _show
    try:
        main()
    except CliptuneError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `cliptune summary | head -1`: whoever read has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback as Python prints it."""
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
