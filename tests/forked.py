"""Stages as a user starts them, without their imports each time: these take most of a short one.

One process imports the stages; each run is a copy of it (a fork), in a folder of its own.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = """
import importlib, json, os, sys, traceback
from pipeline import errors
mains = {name: importlib.import_module(f"stages.{name}").main for name in sys.argv[1:]}
import mlflow
print("ready", flush=True)
for line in sys.stdin:
    folder, stage, log = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 0
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1), os.dup2(out, 2)
            os.chdir(folder)
            errors.run(mains[stage])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forked:
    """`run` is `python -m stages.<stage>` in a folder."""

    def __init__(self, root: Path, stages: Sequence[str], environment: Mapping[str, str]) -> None:
        """Import the `stages` of the checkout `root`; its code is what runs."""
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *stages],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._said() == "ready"

    def run(self, folder: Path, stage: str, *, log: Path) -> tuple[int, str]:
        """The stage's exit code, and what it wrote; the log lies outside the folder."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([str(folder), stage, str(log)]) + "\n")
        self._server.stdin.flush()
        return int(self._said()), log.read_text()

    def close(self) -> None:
        """End the process."""
        self._server.communicate()

    def _said(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()
