"""DVC and git as processes, as if by hand: not as a part of the execution this may be in."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError


def dvc(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC in a tree, as if by hand: not as a part of the execution this may be in.

    None of the tree's own modules is imported, as Python would do with those of its folder.
    """
    command = [sys.executable, "-P", "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=tree, env=environ(), capture_output=True, text=True, check=False
    )


def environ() -> dict[str, str]:
    """Without what ties a process to an execution of DVC or to a run."""
    ours = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT", "GIT_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return kept | {"PATH": tools(), "DVC_NO_ANALYTICS": "1"}


def tools() -> str:
    """PATH with the folder of this Python first: stages call `python`, and mean this one."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def status(tree: Path, *targets: str) -> dict[str, Any]:
    """What `dvc status` finds of a tree, by stage; raises DataError where it fails."""
    done = dvc(tree, "status", "--json", *targets)
    found = re.search(r"^\{.*\}\s*\Z", done.stdout, re.MULTILINE | re.DOTALL)
    if done.returncode or found is None:
        raise DataError(f"`dvc status` failed in {tree}: {said(done)}")
    entries: dict[str, Any] = json.loads(found.group())
    return entries


def differing(found: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Any]]:
    """Of what `status` found: stage, a dependency that changed (None: its command did), and how.

    `check` is left out, which depends on the whole of params.yaml, each other stage on its own
    sections; so is what is only not there, as in a fresh clone.
    """
    for stage, entries in ((name, found[name]) for name in found if name != "check"):
        for entry in entries:
            if isinstance(entry, str):
                yield stage, None, entry
                continue
            for path, how in entry.get("changed deps", {}).items():
                if how != "deleted":
                    yield stage, path, how


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a tree, likewise."""
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environ(),
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The first error that DVC tells, which has caused the others; else its last line."""
    lines = (done.stdout + done.stderr).strip().splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if "ERROR" in line]
    return (errors or lines[-1:] or ["nothing said"])[0]
