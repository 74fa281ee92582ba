"""What a run was made from: the commit, what the work tree holds beyond it, the libraries.

Only reads, from the work tree it is called in; knows nothing of MLflow. No stage lists this module
or pipeline/tracking*.py as a dependency in dvc.yaml: an edit of how a run is described must not
cost a training.
"""

import hashlib
import os
import platform
import posixpath
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import distributions
from pathlib import Path
from typing import IO, Any, cast

from pipeline import lineage_patch, lineage_secrets

PATCH_LIMIT = 5_000_000
"""Bytes of a patch that is still stored with a run."""

FILE_LIMIT = 1_000_000
"""Bytes of an untracked file that still goes into the patch."""

SECRETS = (
    ".env",
    ".env.*",
    ".netrc",
    "*.pem",
    "*.key",
    "*.p12",
    "id_rsa*",
    "id_ed25519*",
)
"""Untracked files that never go into a patch."""

DVC_FILES = (":(glob)**/*.dvc", ":(glob)**/.gitignore")
"""What `dvc add` writes beside data, for git to keep."""


@dataclass(frozen=True)
class Code:
    """The state of the work tree, the pipeline's outputs left aside.

    `patch` turns the commit into the work tree (`git apply`); None where there is nothing to turn,
    or where it is too large. `left_out` says what a dirty tree holds that the patch does not, and
    `secrets` which files of it are not there because they hold a credential, and of what kind.
    """

    commit: str | None
    branch: str | None
    remote: str | None
    dirty: bool
    patch: bytes | None
    left_out: str | None
    secrets: tuple[str, ...] = ()


def read_code(*, outputs: Iterable[str], data: Iterable[str], patched: bool = True) -> Code:
    """The work tree against its commit.

    `outputs` (what the pipeline writes) and every dvc.lock count neither as change nor as content.
    Untracked files below `data` are left to DVC, which hashes them, but for those that DVC keeps in
    git. Not `patched`: the patch is only missed. Without git or a commit all fields are empty.
    """
    commit = _text(_git("rev-parse", "--verify", "--quiet", "HEAD"))
    if commit is None:
        return Code(None, None, None, dirty=False, patch=None, left_out=None)
    ours = [*_exclusions(outputs), ":(exclude,glob)**/dvc.lock"]
    names = _untracked([".", *ours, *_exclusions(data)])
    names += [name for name in _untracked([*DVC_FILES, *ours]) if name not in names]
    taken, left = _share_out(names)
    patch, problem = _patch(ours, taken)
    if not patched and (patch or problem or left):
        patch, problem, left = b"", "CLIPTUNE_PATCH=off: no patch was stored", []
    patch, secrets = lineage_patch.cleared(patch)
    notes = [problem] if problem else []
    if left:
        notes.append(f"not in the patch: {listed(left)}")
    if secrets:
        notes.append(
            "not in the patch, for it holds a credential, so that the run can't be rebuilt from "
            f"its record: {listed(secrets)}"
        )
    return Code(
        commit=commit,
        branch=_text(_git("symbolic-ref", "--short", "--quiet", "HEAD")),
        remote=_text(_git("config", "--get", "remote.origin.url")),
        dirty=bool(patch or notes),
        patch=patch or None,
        left_out="; ".join(notes) or None,
        secrets=tuple(secrets),
    )


def unpublished() -> bytes | None:
    """The commits of HEAD that no remote was seen to have, as `git bundle` packs them.

    They may never get there: a retraining takes back what it could not publish. None where there
    are none, where no remote is known, and where they are no text, large, or hold a credential.
    """
    alone = ["HEAD", "--not", "--exclude=*/retrain/*", "--remotes"]  # proposals may go
    size = _text(_git("rev-list", "--objects", "--disk-usage", *alone)) or "0"
    known = _text(_git("for-each-ref", "--count=1", "refs/remotes"))
    if known is None or not 0 < int(size) <= FILE_LIMIT:
        return None
    plain = ["--no-ext-diff", "--no-textconv", "--no-color", "-c"]
    said = _git("log", "--patch", *plain, *alone)
    if not said or re.search(rb"(?m)^Binary files ", said):
        return None
    if lineage_secrets.kinds(said.decode("utf-8", "replace")):
        return None
    return _git("bundle", "create", "--quiet", "-", *alone)


def listed(names: list[str]) -> str:
    """The first ten, and how many follow."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{', '.join(names[:10])}{more}"


def _git(*args: str) -> bytes | None:
    """The output of a git command; None where it fails or there is no git."""
    try:
        found = subprocess.run(["git", *args], capture_output=True, check=True, env=_environ())
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout


def _environ(**chosen: str) -> dict[str, str]:
    """A read neither waits for the lock of another git command nor writes the user's index."""
    return os.environ | {"GIT_OPTIONAL_LOCKS": "0"} | chosen


def _text(output: bytes | None) -> str | None:
    return None if output is None else output.decode("utf-8", "replace").strip() or None


def _exclusions(names: Iterable[str]) -> list[str]:
    """Pathspecs that leave `names` out; git refuses those outside the work tree."""
    inside = (n for n in names if n != "." and not n.startswith(("../", "/")) and "://" not in n)
    return [f":(exclude,literal){name}" for name in inside]


def _untracked(pathspecs: list[str]) -> list[str]:
    """Files that git neither tracks nor ignores; nested repositories (ending in /) are skipped."""
    found = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *pathspecs)
    names = [os.fsdecode(name) for name in (found or b"").split(b"\0") if name]
    return [name for name in names if not name.endswith("/")]


def _share_out(names: list[str]) -> tuple[list[str], list[str]]:
    """Untracked files that go into the patch, and those that don't: large ones and secrets."""
    taken, left, total = [], [], 0
    for name in names:
        size = os.lstat(name).st_size if os.path.lexists(name) else 0
        secret = any(fnmatch(posixpath.basename(name), pattern) for pattern in SECRETS)
        if secret or size > FILE_LIMIT or total + size > PATCH_LIMIT:
            left.append(name)
        else:
            taken.append(name)
            total += size
    return taken, left


def _patch(exclusions: list[str], untracked: list[str]) -> tuple[bytes, str | None]:
    """All changes since the commit, as `git apply` takes them, or else why there are none.

    Untracked files become visible to `git diff` through a copy of the index: the user's own index
    stays as it is.
    """
    # A user's diff settings (prefixes, external tools, colour) would spoil the patch.
    plain = ["--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"]
    plain += ["-U3", "--submodule=short"]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder, "index")
        own = _text(_git("rev-parse", "--git-path", "index"))
        if own is not None and Path(own).exists():
            # With its time, by which git knows what changed too soon for times to tell.
            shutil.copy2(own, index)
        env = _environ(GIT_INDEX_FILE=str(index))
        if untracked:
            names = ["--pathspec-from-file=-", "--pathspec-file-nul"]
            subprocess.run(
                ["git", "--literal-pathspecs", "add", "--intent-to-add", *names],
                input=b"\0".join(os.fsencode(name) for name in untracked),
                capture_output=True,
                check=False,  # a file that vanished meanwhile is no change
                env=env,
            )
        diff = ["git", "diff", "--binary", "--full-index", *plain, "HEAD", "--", ".", *exclusions]
        with subprocess.Popen(
            diff, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        ) as process:
            patch = cast(IO[bytes], process.stdout).read(PATCH_LIMIT + 1)
            if len(patch) > PATCH_LIMIT:
                process.kill()
                return b"", f"the patch is above {PATCH_LIMIT / 1e6:g} MB and was not stored"
        if process.returncode != 0:
            return b"", "git diff failed: no patch was stored"
    return patch, None


def environment() -> dict[str, Any]:
    """Python, the machine and every installed distribution."""
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = (re.search(r"Model:\s*(.+)", card.read_text()) for card in cards)
    known = [each.metadata for each in distributions()]  # which parses a file whenever it is asked
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _processor(),
        "cpus": os.cpu_count(),
        "gpus": [name.group(1) for name in names if name],
        "packages": sorted({f"{m['Name'].lower()}=={m['Version']}" for m in known if m["Name"]}),
    }


def _processor() -> str:
    """The kind of processor: kernels, and so the last digits of a sum, go by it."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if named:
            return named.group(1).strip()
    return platform.processor() or platform.machine()


def environment_digest(found: Mapping[str, Any]) -> str:
    """SHA-256 of what of `environment()` a user can install: Python and the packages."""
    return hashlib.sha256("\n".join([found["python"], *found["packages"]]).encode()).hexdigest()
