"""Where trials run: a clone of the repository, in the state of the work tree, with its data linked.

`dvc exp run` in the work tree itself would leave the last trial's params there when it is killed,
and `--temp` copies all data for each trial and lacks what neither git nor DVC keeps. Here data are
linked once a sweep, the work tree is never touched, and what a kill leaves is deleted by the next.
Caches, checkpoints and runs are those of the work tree.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from pipeline import paths
from pipeline.artifacts import write_json
from pipeline.errors import DataError
from pipeline.lineage_dvc import dvc_files, overlap, read_graph
from pipeline.registry import trees
from pipeline.registry.processes import environ
from pipeline.tracking_store import user_uri

FILE_LIMIT = 10_000_000
"""Bytes of a file that git does not know and that still comes along."""

GRACE = 2.0
"""Seconds in which DVC ends by itself after Ctrl-C."""

PATIENCE = 60.0
"""Seconds for a trial to leave a checkpoint when it is stopped."""


DIFF = (
    "diff", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color",
    "--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--", ".", ":(exclude,glob)**/dvc.lock",
)  # fmt: skip
"""What git tracks and is not committed, whatever a user's settings of git are; locks are copied."""


@dataclass(frozen=True)
class Tree:
    """The clone at `path` of the repository at `root`; `kept`: files as a trial finds them."""

    path: Path
    root: Path
    kept: dict[str, bytes]

    def run(self, name: str, arguments: Sequence[str], log: Path) -> int:
        """`dvc exp run` of the experiment `name`; its exit code. What it says goes to `log`.

        The experiment is then one of the work tree's repository too.
        """
        for file, content in self.kept.items():
            (self.path / file).write_bytes(content)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "dvc", "exp", "run", "--name", name, *arguments]
        with log.open("wb") as said:
            process = subprocess.Popen(
                command, cwd=self.path, env=_environ(self.root),
                stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip
            with _noted(self.root, process.pid):
                code = process.wait()
        if code == 0:
            self._fetch(name)
        return code

    def _fetch(self, name: str) -> None:
        for ref in experiments(self.path, name):
            git(self.root, "fetch", "--quiet", "--no-tags", str(self.path), f"+{ref}:{ref}")


def experiments(root: Path, name: str) -> list[str]:
    """The refs of the experiments of a name, one a commit that they start from."""
    found = git(root, "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    return [ref for ref in found if ref.rpartition("/")[2] == name]


@contextmanager
def clone(root: Path, stage: str) -> Iterator[Tree]:
    """A clone with what `stage` and those before it need; deleted afterwards.

    Raises DataError where there is no commit to start from, and for a source whose relative path
    leads out of the work tree.
    """
    folder = root / paths.WORK / "tune" / "tree"
    stop_left(root)
    shutil.rmtree(folder, ignore_errors=True)
    graph = read_graph(root)
    for path in graph.sources:
        if path.startswith("../"):
            raise DataError(
                f"{path} lies outside of this folder, and trials run in a copy of it, from which "
                "that path leads elsewhere: give it in params.yaml as an absolute path"
            )
    try:
        git(root, "clone", "--quiet", "--no-tags", str(root), str(folder))
        _settle(root, folder)
        aside = [*graph.outs, *graph.sources, paths.WORK.as_posix()]
        _carry(root, folder, aside)
        with TemporaryDirectory() as locks:
            for file in dvc_files(root):
                lock = file.with_suffix(".lock")
                if (root / lock).is_file():
                    Path(locks, lock).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / lock, Path(locks, lock))
            patch = _git(root, *DIFF)
            trees.restore(folder, root, patch=patch, sources=Path(locks), stages=[stage], link=True)
        names = [paths.PARAMS, *(file.with_suffix(".lock") for file in dvc_files(folder))]
        kept = {str(n): (folder / n).read_bytes() for n in names if (folder / n).is_file()}
        yield Tree(folder, root, kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stop_left(root: Path) -> None:
    """End the trial of a sweep that was killed: it would go on by itself."""
    file = _running(root)
    with suppress(FileNotFoundError, json.JSONDecodeError, KeyError, psutil.Error):
        left = json.loads(file.read_text(encoding="utf-8"))
        process = psutil.Process(left["pid"])
        if process.create_time() == left["created"]:
            _stop(process)
    file.unlink(missing_ok=True)


def git(root: Path, *arguments: str) -> str:
    """What a git command says; raises DataError with its last line where it fails."""
    return os.fsdecode(_git(root, *arguments)).strip()


def _git(root: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, env=environ())
    if done.returncode:
        said = os.fsdecode(done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"`git {arguments[0]}` failed: {said[-1] if said else 'it says nothing'}")
    return done.stdout


def _settle(root: Path, folder: Path) -> None:
    """Caches and runs of the work tree; its name of origin; nobody to sign or to hook."""
    (folder / paths.WORK).symlink_to((root / paths.WORK).resolve())
    with (folder / ".git/info/exclude").open("a", encoding="utf-8") as file:
        file.write(f"/{paths.WORK}\n")  # .gitignore names a folder, and this is a link
    for key in ("user.name", "user.email", "remote.origin.url"):
        with suppress(DataError):
            git(folder, "config", key, git(root, "config", "--get", key))
    git(folder, "config", "core.hooksPath", os.devnull)
    git(folder, "config", "commit.gpgsign", "false")


def _carry(root: Path, folder: Path, aside: Sequence[str]) -> None:
    """Copy small files that git neither tracks nor ignores: a new module, say."""
    listed = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        file = root / name
        small = file.is_file() and file.stat().st_size <= FILE_LIMIT
        if small and not any(overlap(name, other) for other in aside):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / name)


def _environ(root: Path) -> dict[str, str]:
    """As if by hand; runs go where they always do."""
    chosen = {key: os.environ[key] for key in os.environ if key.startswith("MLFLOW_EXPERIMENT")}
    return environ() | chosen | {"MLFLOW_TRACKING_URI": user_uri(root)}


def _running(root: Path) -> Path:
    return root / paths.WORK / "tune" / "running.json"


@contextmanager
def _noted(root: Path, pid: int) -> Iterator[None]:
    """Note which process runs, for a sweep after this one; it has ended afterwards."""
    file = _running(root)
    try:
        with suppress(psutil.Error):
            write_json(file, {"pid": pid, "created": psutil.Process(pid).create_time()})
        yield
    finally:
        with suppress(psutil.Error):
            _stop(psutil.Process(pid))
        file.unlink(missing_ok=True)


def _stop(process: psutil.Process) -> None:
    """End DVC, and wait until its stage has left a checkpoint and gone too."""
    below = process.children(recursive=True)
    # Ctrl-C has reached it as well, and a second signal would cut its farewell short.
    _, left = psutil.wait_procs([process], timeout=GRACE)
    for each in left:
        each.terminate()
    _, left = psutil.wait_procs([process, *below], timeout=PATIENCE)
    for each in left:
        with suppress(psutil.Error):
            each.kill()
