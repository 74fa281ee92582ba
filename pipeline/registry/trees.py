"""A recorded work tree, built again beside the present one.

What a run keeps is its commit, a patch and its dvc.lock; the lock holds a hash of every dependency,
param and output. Data come from DVC's cache, else from its remote.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json
from pipeline.errors import DataError
from pipeline.lineage_dvc import Graph, overlap, read_graph
from pipeline.lineage_secrets import redact
from pipeline.registry.processes import dvc, environ, git, said, status
from pipeline.registry.reproduce import RECORD, hashes


@dataclass(frozen=True)
class Tree:
    """A tree that was built again.

    Attributes:
        path: where it is.
        stages: what `dvc` calls the stages to prove, all of them if it is empty.
        borrowed: sources that neither git nor DVC holds, taken from the present work tree.
        missing: outputs and sources that are nowhere.
        unfetched: why the remote gave nothing, in DVC's words; empty: it was not needed, or gave
            what it has.
    """

    path: Path
    stages: tuple[str, ...]
    borrowed: tuple[str, ...]
    missing: tuple[str, ...]
    unfetched: str = ""


@contextmanager
def worktree(
    root: Path, commit: str, folder: Path, *, keep: bool = False, commits: Path | None = None
) -> Iterator[Path]:
    """The tree of `commit` of the repository at `root` in `folder`, deleted afterwards.

    Raises DataError where the repository does not hold the commit, nor its origin, nor the bundle
    `commits` beyond what they hold.
    """
    remove_worktree(root, folder)
    places = [("origin", commit), *([("--no-tags", str(commits), "HEAD")] if commits else [])]
    for place in places:
        if git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
            git(root, "fetch", "--quiet", *place)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Hooks, such as those of `dvc install`, would work on a tree that has no data yet.
    made = git(
        root,
        "-c",
        "core.hooksPath=/dev/null",
        "worktree",
        "add",
        "--quiet",
        "--force",
        "--detach",
        str(folder),
        commit,
    )
    if made.returncode:
        said = made.stderr.strip().splitlines()
        raise DataError(
            f"commit {commit} can't be checked out: neither this repository nor its origin has it "
            f"({said[-1] if said else 'git says no more'}). Fetch it from where the run was made"
        )
    try:
        yield folder
    finally:
        if not keep:
            remove_worktree(root, folder)


def remove_worktree(root: Path, folder: Path) -> None:
    """Delete a tree that `worktree` made, and what git knows of it."""
    git(root, "worktree", "remove", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    git(root, "worktree", "prune")


def restore(
    tree: Path,
    root: Path,
    *,
    patch: bytes,
    sources: Path,
    stages: Sequence[str] = (),
    link: bool = False,
) -> Tree:
    """Bring patch, locks and data into a fresh worktree.

    Outputs come from the cache of the repository at `root`, else from its remote; with `link` as
    links, unless the user has said how. Raises DataError where the patch does not apply, or an
    output has a file outside of itself.
    """
    has_remote = _prepare(tree, root, patch=patch, sources=sources, link=link)
    graph = read_graph(tree)
    borrowed = _borrow(tree, root, graph)
    _check_folders(tree, graph)
    done = dvc(tree, "checkout", *_targets(stages))
    unfetched = ""
    if done.returncode and has_remote:
        fetched = dvc(tree, "fetch", *_targets(stages))  # 0 where the remote lacks some, too
        unfetched = redact(said(fetched)) if fetched.returncode else ""
        _check_folders(tree, graph)
        dvc(tree, "checkout", "--allow-missing", *_targets(stages))
    missing = _missing(tree, graph, stages)
    return Tree(tree, tuple(stages), borrowed, missing, unfetched)


def fetch(tree: Path, root: Path, *, patch: bytes, sources: Path, path: str) -> None:
    """Bring a recorded output into the cache of the repository at `root`, where a remote has it."""
    if _prepare(tree, root, patch=patch, sources=sources):
        dvc(tree, "fetch", path)


def cached(root: Path, digest: str, *, partly: bool = False) -> dict[str, Path] | None:
    """The files of an output by their names (a file by itself: ""), in DVC's cache.

    None where the cache of the repository at `root` does not hold all of them, or, if `partly`,
    not even their names.
    """
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", digest):  # a record may be of anyone's making
        return None
    said = dvc(root, "cache", "dir")
    folder = Path(said.stdout.strip().splitlines()[-1], "files", "md5") if said.stdout else root

    def place(md5: str) -> Path:
        return folder / md5[:2] / md5[2:]

    if not place(digest).is_file():
        return None
    if not digest.endswith(".dir"):
        return {"": place(digest)}
    found = {str(one["relpath"]): place(str(one["md5"])) for one in read_json(place(digest))}
    return found if partly or all(file.is_file() for file in found.values()) else None


def changes(tree: Tree) -> dict[str, list[str]]:
    """What differs from the record, by stage, as DVC finds it; empty: nothing.

    Stages that had never run are none of it: what others needed of them would be missing there.
    """
    asked = ["--with-deps", *tree.stages] if tree.stages else []
    never = {a for a, stage in read_graph(tree.path).stages.items() if not stage.out_digests}
    return {
        stage: sorted(_described(entries))
        for stage, entries in status(tree.path, *asked).items()
        if stage not in never and stage.rpartition(":")[2] != RECORD
    }


def run_again(tree: Tree, *, tracking_uri: str) -> int:
    """Execute every stage anew, without a cache of results; DVC's exit code.

    What the stages log goes to `tracking_uri`, not to the user's store.
    """
    targets = tree.stages or _last_stages(read_graph(tree.path))
    told = {**environ(), "MLFLOW_TRACKING_URI": tracking_uri}
    command = [sys.executable, "-P", "-m", "dvc", "repro", "--force", "--no-run-cache", *targets]
    return subprocess.run(command, cwd=tree.path, env=told, check=False).returncode


def _apply(tree: Path, patch: bytes) -> None:
    if not patch:
        return
    command = ["git", "apply", "--whitespace=nowarn", "-"]
    done = subprocess.run(
        command, cwd=tree, input=patch, capture_output=True, check=False, env=environ()
    )
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip()
        raise DataError(f"the recorded patch does not apply to its commit: {told}")


def _prepare(tree: Path, root: Path, *, patch: bytes, sources: Path, link: bool = False) -> bool:
    """Everything but the data; whether there is a default remote."""
    _apply(tree, patch)
    for lock in sorted(sources.rglob("dvc.lock")):
        target = tree / lock.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lock, target)
    return _configure(tree, root, link=link)


def _configure(tree: Path, root: Path, *, link: bool = False) -> bool:
    """The cache and the remotes of the repository at `root`; whether it has a default remote."""
    cache = dvc(root, "cache", "dir")
    if cache.returncode:
        raise DataError(f"{root} is no DVC repository: {said(cache)}")
    # Of now, not of the commit: a remote may have been added, or moved, since.
    config = _config(root / ".dvc/config", root / ".dvc/config.local")
    for section in config.sections():
        url = config.get(section, "url", fallback="")
        if url and "://" not in url:  # a path, which starts from the folder of the config
            config.set(section, "url", str((root / ".dvc" / url).resolve()))
    if not config.has_section("cache"):
        config.add_section("cache")
    config.set("cache", "dir", cache.stdout.strip().splitlines()[-1])
    if link and not config.has_option("cache", "type"):
        config.set("cache", "type", "reflink,hardlink,symlink,copy")
    with (tree / ".dvc/config.local").open("w", encoding="utf-8") as file:
        config.write(file)
    return config.has_option("core", "remote")


def _config(*files: Path) -> ConfigParser:
    """Configs of DVC's, a later one over the one before: sections such as `'remote "store"'`."""
    found = ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(files, encoding="utf-8")
    return found


def _borrow(tree: Path, root: Path, graph: Graph) -> tuple[str, ...]:
    """Link sources that are here and not there: what neither git nor DVC holds."""
    found = []
    for path in graph.sources:
        there, here = tree / path, root / path
        added = any(overlap(path, other) for other in graph.added)
        outside = path.startswith(("../", "/"))
        if not (added or outside) and not there.exists() and here.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(here.resolve())
            found.append(path)
    return tuple(found)


def _check_folders(tree: Path, graph: Graph) -> None:
    """Raise DataError where a file of a folder would be written elsewhere: DVC joins any path."""
    digests = {d for stage in graph.stages.values() for d in stage.out_digests.values()}
    for digest in sorted(d for d in {*digests, *graph.added.values()} if d.endswith(".dir")):
        for name in cached(tree, digest, partly=True) or ():
            if name.startswith("/") or ".." in name.split("/"):
                raise DataError(f"the recorded folder {digest} holds {name!r}, outside of itself")


def _missing(tree: Path, graph: Graph, stages: Sequence[str]) -> tuple[str, ...]:
    made = {path for _, path in hashes(graph, stages)}
    return tuple(p for p in sorted({*made, *graph.sources}) if not (tree / p).exists())


def _targets(stages: Sequence[str]) -> list[str]:
    return ["--with-deps", *stages] if stages else []


def _last_stages(graph: Graph) -> list[str]:
    """All stages of the root but the record; DVC puts them in order, and what they need before."""
    return [a for a, stage in graph.stages.items() if ":" not in a and stage.name != RECORD]


def _described(entries: Sequence[Any]) -> Iterator[str]:
    """`changed deps: data/raw (modified)` and the like, one path a line."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for kind, named in entry.items():
            yield from (f"{kind}: {path} ({how})" for path, how in named.items())
