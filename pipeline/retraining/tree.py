"""The work tree that is retrained in: what may lie in it, and how its changes are published."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from pipeline import paths
from pipeline.errors import ConfigError, DataError
from pipeline.lineage_secrets import redact
from pipeline.retraining.commands import git
from pipeline.tracking_store import first_line

Publish = Literal["none", "commit", "pull-request"]

DATA = ":(glob)**/*.dvc"
PRODUCTS = (DATA, ":(glob)**/dvc.lock", f":(literal){paths.RETRAINED.as_posix()}")
"""What a retraining itself changes, which one that was killed leaves behind."""

UNDER_WAY = (
    "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "BISECT_LOG",
)  # fmt: skip
"""In .git: a commit would end it, and in a way that nobody meant."""

IDENTITY = ("-c", "user.name=cliptune", "-c", "user.email=cliptune@localhost")
"""Of commits where git knows nobody."""


def to_publish(word: str) -> Publish:
    """The word as one of the three; ConfigError for another."""
    ways: tuple[Publish, ...] = ("none", "commit", "pull-request")
    for known in ways:
        if word == known:
            return known
    raise ConfigError(f"CLIPTUNE_PUBLISH is {word!r}: set it to {', '.join(ways)}")


def require_clean(root: Path) -> None:
    """Raise DataError where the tree holds what its commit does not, but for PRODUCTS.

    It would be part of the model and of no commit.
    """
    if not git(root, "rev-parse", "--verify", "--quiet", "HEAD", check=False):
        raise DataError("there is no git commit: `git init`, `git add .`, `git commit`")
    under_way = _under_way(root)
    if under_way:
        raise DataError(f"git is in the middle of something ({under_way}): end it, or abort it")
    unmerged = unmerged_files(root)
    if unmerged:
        names = " ".join(unmerged)
        raise DataError(f"git could not merge {names}: take the commit's (`git checkout HEAD -- "
                        f"{names}`), what was computed is in DVC's cache")  # fmt: skip
    others = [f":(exclude,{spec[2:]}" for spec in PRODUCTS]
    status = ("-c", "core.quotePath=false", "status", "--porcelain", "--untracked-files=normal")
    changed = [line[3:] for line in git(root, *status, "--", ".", *others).splitlines()]
    # A retraining makes no new ones, and a dvc.lock by itself would name data that no commit has.
    new = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", DATA)
    changed += filter(None, new.split("\0"))
    if changed:
        names = ", ".join(changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise DataError(f"not committed: {names}{more}. Commit them, or take them back: what is in "
                        "no commit can't be part of a scheduled model")  # fmt: skip


def mended(root: Path) -> list[str]:
    """The files of PRODUCTS that a `git pull --autostash` could not merge, now as in the commit.

    Such a pull ends well, and nobody watches. What lay here is in `git stash`, and can be computed
    again. Nothing is done where somebody is at a merge, or where it is about other files too.
    """
    unmerged = unmerged_files(root)
    if _under_way(root) or unmerged != unmerged_files(root, *PRODUCTS):
        return []
    if unmerged:
        git(root, "checkout", "--quiet", "HEAD", "--", *unmerged)
    return unmerged


def _under_way(root: Path) -> str:
    """What git is in the middle of, by the name of its file; empty: nothing."""
    folder = Path(git(root, "rev-parse", "--absolute-git-dir"))
    return next((name for name in UNDER_WAY if (folder / name).exists()), "")


def unmerged_files(root: Path, *specs: str) -> list[str]:
    """The files that git could not merge, of all or of those that pathspecs name."""
    options = ("--name-only", "--diff-filter=U", "-z", "--relative")
    listed = git(root, "diff", *options, "--", *specs)
    return [name for name in listed.split("\0") if name]


def imports(root: Path) -> list[str]:
    """The files of data that DVC fetches from elsewhere: `dvc import-url`, `dvc import`."""
    return [name for name, content in _tracked(root) if content.get("deps")]


def changed(root: Path, imported: Sequence[str]) -> list[str]:
    """Those of the imports whose source has changed; no data are read.

    Raises DataError where a source does not answer.
    """
    from dvc.repo import Repo  # noqa: PLC0415 - a second

    found = []
    with Repo(str(root)) as repo:
        for name in imported:
            (stage,) = repo.stage.collect(str(root / name))
            for dependency in stage.deps:
                try:
                    new = dependency.changed_checksum()
                except Exception as error:  # each kind of store has errors of its own
                    raise DataError(
                        f"looking for new data failed: {name} comes from {dependency}, which says: "
                        f"{redact(first_line(error))}. Look at that address and at the credentials "
                        "(for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
                    ) from None
                if new and name not in found:
                    found.append(name)
    return found


def touched(root: Path) -> bool:
    """Whether what a retraining changes is otherwise than in the commit."""
    return bool(git(root, "status", "--porcelain", "--", *PRODUCTS))


def watched(root: Path) -> dict[str, str]:
    """The data that `dvc add` took from the tree, where they are there; by their .dvc files."""
    found: dict[str, str] = {}
    for name, content in _tracked(root):
        for out in [] if content.get("deps") else content.get("outs") or []:
            place = Path(name).parent / str(out["path"])
            if (root / place).exists():
                found[name] = place.as_posix()
    return found


def data_files(root: Path) -> list[str]:
    """The .dvc files of the commit that are there."""
    listed = git(root, "ls-files", "-z", "--", DATA)
    return [name for name in listed.split("\0") if name and (root / name).exists()]


def products(root: Path) -> list[str]:
    """The files of PRODUCTS that are there, but for .dvc files that nobody has committed."""
    listed = git(root, "ls-files", "-coz", "--exclude-standard", "--", *PRODUCTS[1:])
    found = [name for name in listed.split("\0") if name and (root / name).exists()]
    return sorted({*found, *data_files(root)})


def who(root: Path) -> tuple[str, ...]:
    """Arguments of git that name the author of a commit, where git knows nobody."""
    return () if git(root, "config", "user.email", check=False) else IDENTITY


def ahead(root: Path) -> bool:
    """Whether the branch has commits that no branch of origin has."""
    found = git(root, "rev-list", "HEAD", "--not", "--remotes=origin", "--max-count=1")
    return bool(found)


def destination(root: Path) -> str:
    """The branch of origin that is published to.

    Raises DataError where there is no origin, or no branch that could be meant.
    """
    if not git(root, "config", "--get", "remote.origin.url", check=False):
        raise DataError("git has no remote called origin to push to: `git remote add origin URL`")
    return _branch(root)


def pushed(root: Path) -> str:
    """Push the commits to the branch that the tree is on; in words.

    Raises DataError where there is nothing to push to, or the push is refused.
    """
    base = destination(root)
    _push(root, base)
    return f"pushed to {base}"


def _push(root: Path, base: str) -> None:
    """Push, after a merge where somebody pushed meanwhile: a rebase would rename the commit that
    the run has recorded. A merge that can't be pushed is undone, and its files with it: they would
    be changes that nobody here has made.
    """
    own = git(root, "rev-parse", "HEAD")
    try:
        git(root, "push", "--quiet", "origin", f"HEAD:refs/heads/{base}")
    except DataError:
        git(root, "fetch", "--quiet", "origin", base)
        _merge(root, base)
        try:
            git(root, "push", "--quiet", "origin", f"HEAD:refs/heads/{base}")
        except BaseException:
            git(root, "reset", "--quiet", "--keep", own)
            raise


def _merge(root: Path, base: str) -> None:
    try:
        git(root, *who(root), "merge", "--quiet", "--no-edit", "FETCH_HEAD")
    except DataError as error:
        names = unmerged_files(root)
        git(root, "merge", "--abort", check=False)
        if not names:
            raise
        raise DataError(
            f"somebody has pushed other changes of {', '.join(names)} to {base} meanwhile: take "
            f"theirs (`git restore {' '.join(names)}`, `git pull`) and run this again, what was "
            "computed is in DVC's cache"
        ) from error


def _branch(root: Path) -> str:
    """The branch to publish to: CI often checks out a commit, and names the branch aside."""
    here = git(root, "branch", "--show-current", check=False)
    tag = os.environ.get("GITHUB_REF_TYPE") == "tag"
    github = "" if tag else os.environ.get("GITHUB_REF_NAME")
    named = here or github or os.environ.get("CI_COMMIT_BRANCH") or ""
    if not re.fullmatch(r"[\w./-]+", named) or named.startswith("-"):
        raise DataError("git is on no branch (HEAD is detached), and neither GITHUB_REF_NAME nor "
                        "CI_COMMIT_BRANCH names one: `git switch main`")  # fmt: skip
    return named


def _tracked(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """The .dvc files that git knows or would add, and their content."""
    listed = git(root, "ls-files", "-coz", "--exclude-standard", "--", ":(glob)**/*.dvc")
    names = [name for name in listed.split("\0") if name and (root / name).is_file()]
    yaml = YAML(typ="safe", pure=True)
    return [(name, yaml.load((root / name).read_text(encoding="utf-8")) or {}) for name in names]
