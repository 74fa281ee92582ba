"""The commits of a retraining, which are nobody's as long as origin does not have them.

They lie on the branch while it runs, since its runs record the commit that they are made from. One
that is not published is taken back, and a later run that would make the same takes it again: what
was recorded stays the name of something. Commits of others are never touched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.artifacts import read_json, write_json
from pipeline.retraining.commands import git
from pipeline.retraining.tree import PRODUCTS, who

KEPT = paths.RETRAINING / "commits.json"
"""Where the branch was, and what was made on it since; what was made before, and taken back."""


REMEMBERED = 20
"""Commits that were taken back."""


class Commits:
    """What is made on the branch of the tree at `root`, from `before` on."""

    def __init__(self, root: Path):
        """Takes back first what a retraining that was killed has left."""
        self._root = root
        file = root / KEPT
        left: dict[str, Any] = read_json(file) if file.is_file() else {}
        self.before = str(left.get("before", ""))
        self._made: list[str] = left.get("made", [])
        self._former: list[str] = left.get("former", [])
        self.take_back()
        self.before = git(root, "rev-parse", "HEAD")

    def add(self, names: Sequence[str], title: str, body: str = "") -> str | None:
        """Commit these files; the commit's hash, or None where nothing of them has changed."""
        root = self._root
        if not names:
            return None
        git(root, "add", "--", *names)
        if not git(root, "diff", "--cached", "--name-only", "--", *names):
            return None
        here = git(root, "rev-parse", "HEAD")
        if here != [self.before, *self._made][-1]:  # somebody went on: that is where to go back to
            self.before, self._made = here, []
        made = self._again(git(root, "write-tree"), here)
        if made is not None:
            git(root, "reset", "--quiet", "--soft", made)
        else:
            told = ("--message", title, *(("--message", body) if body else ()))
            # These files alone: what somebody staged meanwhile is theirs.
            git(root, *who(root), "commit", "--quiet", *told, "--", *names)
            made = git(root, "rev-parse", "HEAD")
        self._made.append(made)
        self._write()
        return made

    def join(self, tip: str, tree: str) -> None:
        """Stand on `tip` too, with the content `tree`; the files and the index stay as they are."""
        root, here = self._root, git(self._root, "rev-parse", "HEAD")
        made = self._again(tree, f"{here} {tip}")
        if not git(root, "rev-list", "--max-count=1", here, "--not", tip):
            same = git(root, "rev-parse", f"{tip}^{{tree}}") == tree
            made = tip if same else made  # nothing came in meanwhile
        if made is None:
            told = ("-p", here, "-p", tip, "-m", "What waits to be merged, and what was meanwhile")
            made = git(root, *who(root), "commit-tree", *told, tree)
        self._made.append(made)
        self._write()  # first: after a kill in between HEAD is none of these, and stays
        git(root, "reset", "--quiet", "--soft", made)

    def publish(self) -> None:
        """They are origin's now."""
        self._made = []
        self._write()

    def take_back(self) -> None:
        """Where the branch was before, and every file as it is; nothing if it went on since."""
        here = git(self._root, "branch", "--show-current")
        theirs = here and git(
            self._root, "for-each-ref", "--contains", "HEAD", f"refs/remotes/origin/{here}"
        )
        # A kill may come between the push and the word that it is done.
        if self._made and not theirs and git(self._root, "rev-parse", "HEAD") == self._made[-1]:
            git(self._root, "reset", "--quiet", "--soft", self.before)
            git(self._root, "reset", "--quiet", "--", *PRODUCTS)
        if self._made:
            self._former = list(dict.fromkeys([*self._former, *self._made]))[-REMEMBERED:]
            self._made = []
            self._write()

    def _again(self, tree: str, parents: str) -> str | None:
        """A commit that was taken back, if its content and its parents are these."""
        for commit in self._former:
            form = git(self._root, "show", "--no-patch", "--format=%T %P", commit, check=False)
            if form == f"{tree} {parents}":
                return commit
        return None

    def _write(self) -> None:
        kept = {"before": self.before, "made": self._made, "former": self._former}
        write_json(self._root / KEPT, kept)
