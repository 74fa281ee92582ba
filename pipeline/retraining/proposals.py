"""Pull requests: what a retraining proposes, and that the next one goes on from it.

A machine that is thrown away knows nothing but the branch it clones. Each week would count what is
new from what was merged last, and propose its own beside that of the week before. So all of a
branch's retrainings are proposed from one other branch, and stand on each other there.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline import paths
from pipeline.artifacts import write_text
from pipeline.errors import DataError
from pipeline.lineage_secrets import redact
from pipeline.retraining.commands import git
from pipeline.retraining.commits import Commits
from pipeline.retraining.tree import PRODUCTS, destination

PLAIN = "100644"
"""The mode of a file that is neither a link nor a program."""
HISTORY = paths.RETRAINED.as_posix()
OURS = 'map(select(.isCrossRepository | not))[0] | select(.) | "\\(.number) \\(.url)"'
"""Of pull requests from a branch of that name: forks have branches too."""
LEFT = (
    "{branch} of origin holds {strange}, which nobody has looked at: it is neither run nor built "
    "on, and what was judged there is counted again. Merge it, or close it and delete the branch."
)
VERSIONS = {
    "md5", "hash", "etag", "checksum", "version_id", "size", "nfiles", "files", "isexec",
    "rev_lock",
}  # fmt: skip
"""Keys of a .dvc file that say which version of the data, and not where they come from."""


@dataclass(frozen=True)
class Proposal:
    """Where a retraining is proposed from.

    Attributes:
        branch: of origin.
        replaces: the commit there that the branch may be taken away from, since all that it held
            was merged; empty: none.
        notes: what a reader of the summary has to know.
    """

    branch: str
    replaces: str = ""
    notes: Sequence[str] = ()


def taken_up(root: Path, base: str, commits: Commits) -> Proposal:
    """Stand on what waits to be merged into `base`; the branch to propose from.

    Files that lie in the tree otherwise than in its commit are those of a retraining here, and stay
    as they are. A branch that holds more than a retraining makes is nobody's to build on: what it
    changes has been looked at by nobody. It is left, and the next one of its name taken.
    """
    heads = "refs/heads/retrain/*:refs/remotes/origin/retrain/*"
    git(root, "fetch", "--quiet", "--prune", "origin", f"+{heads}")
    own = git(root, "rev-parse", "HEAD")
    tree = git(root, "rev-parse", f"{own}^{{tree}}")
    waiting: list[tuple[str, str, str]] = []
    merged: dict[str, str] = {}
    notes: list[str] = []
    known = _branches(root, f"retrain/{base}")
    for branch, tip in known.items():
        fork = git(root, "merge-base", own, tip, check=False)
        if _holds(root, own, tip):
            merged[branch] = ""
        elif fork and _agree(root, own, tip, fork):
            merged[branch] = tip
        elif strange := _strange(root, fork, tip):
            notes.append(LEFT.format(branch=branch, strange=strange))
        elif (joined := _joined(root, own, tip, fork)) == tree:
            merged[branch] = tip
        else:
            waiting.append((branch, tip, joined))
    if not waiting:
        names = (_named(f"retrain/{base}", number) for number in count(1))
        branch = next(name for name in names if name in merged or name not in known)
        return Proposal(branch, replaces=merged.get(branch, ""), notes=notes)
    branch, tip, joined = waiting[-1]
    with _moved(root, own, joined):
        commits.join(tip, joined)
    goes_on = f"This goes on from {branch}, which nobody has merged yet."
    return Proposal(branch, notes=[*notes, goes_on])


def _named(first: str, number: int) -> str:
    return first if number == 1 else f"{first}+{number}"


def _branches(root: Path, first: str) -> dict[str, str]:
    """The commits of the branches of origin that are called `first`, `first`+2, …, in order."""
    listed = git(
        root, "for-each-ref", "--format=%(refname:lstrip=3) %(objectname)",
        f"refs/remotes/origin/{first}", f"refs/remotes/origin/{first}+*",
    )  # fmt: skip
    tips = dict(line.split(" ") for line in listed.splitlines())
    numbers = {name: name.removeprefix(first).removeprefix("+") or "1" for name in tips}
    ours = [name for name, number in numbers.items() if number.isdecimal()]
    return {name: tips[name] for name in sorted(ours, key=lambda name: int(numbers[name]))}


def proposed(root: Path, proposal: Proposal, *, title: str, body: Path) -> str:
    """Push the commits to the proposal's branch, and ask to merge it; in words.

    Of a branch that is proposed already, title and text become those of now. Raises DataError where
    the push is refused.
    """
    base, branch = destination(root), proposal.branch
    lease = f"--force-with-lease=refs/heads/{branch}:{proposal.replaces}"
    force = [lease] if proposal.replaces else []
    git(root, "push", "--quiet", *force, "origin", f"HEAD:refs/heads/{branch}")
    by_hand = f"open a pull request from it to {base}, if there is none"
    if shutil.which("gh") is None:
        return f"pushed to {branch}; {by_hand} (there is no gh here)"
    try:
        said = _asked(root, title=title, body=body, head=branch, base=base)
    except DataError as error:
        said = f"{by_hand} (gh: {error})"
    return f"pushed to {branch}; {said}"


def _asked(root: Path, *, title: str, body: Path, head: str, base: str) -> str:
    """The address of the pull request, which is made where there is none."""
    ends = ("--head", head, "--base", base)
    found = _gh(root, "pr", "list", *ends, "--state", "open",
                "--json", "number,url,isCrossRepository", "--jq", OURS)  # fmt: skip
    number, _, address = found.partition(" ")
    if not address:
        return _gh(root, "pr", "create", "--title", title, "--body-file", str(body), *ends)
    # `gh pr edit` asks for leave to read projects, which the job's own token does not have.
    _gh(root, "api", "--silent", "--method", "PATCH", f"repos/{{owner}}/{{repo}}/pulls/{number}",
        "--raw-field", f"title={title}", "--field", f"body=@{body}")  # fmt: skip
    return address


def _gh(root: Path, *arguments: str) -> str:
    """What GitHub's command prints; DataError with its last line where it fails."""
    done = subprocess.run(["gh", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"gh: {redact(done.stderr)}\n")
        said = done.stderr.strip().splitlines()
        raise DataError(redact(said[-1]) if said else "it said nothing")
    return done.stdout.strip()


def _holds(root: Path, commit: str, other: str) -> bool:
    """Whether a commit has another one among those before it."""
    return not git(root, "rev-list", "--max-count=1", other, "--not", commit)


def _names(root: Path, *arguments: str) -> list[str]:
    listed = git(root, "diff", "--name-only", "--no-renames", "--relative", "-z", *arguments)
    return [name for name in listed.split("\0") if name]


def _strange(root: Path, fork: str, tip: str) -> str:
    """What the branch changes that no retraining does, in words; empty: nothing.

    A link would be read, and written through, with the secrets of the schedule.
    """
    if not fork:
        return "a history of its own"
    every = _changed(root, fork, tip)
    known = _changed(root, fork, tip, "--", *PRODUCTS)
    for name, mode in every.items():
        if name not in known or mode != PLAIN:
            return f"a change of {name}"
    for name in _names(root, fork, tip, "--", *PRODUCTS):
        try:
            content = _shown(root, tip, name)
            if name.endswith(".dvc") and _places(_shown(root, fork, name)) != _places(content):
                return f"other sources in {name}"
        except (YAMLError, UnicodeError):
            return f"an unreadable {name}"
    return ""


def _agree(root: Path, own: str, tip: str, fork: str) -> bool:
    """Whether all that the branch changes is so in `own` too, as after a squash."""
    names = [f":(top,literal){name}" for name in _changed(root, fork, tip)]
    return not names or not _changed(root, own, tip, "--", *names)


def _changed(root: Path, *arguments: str) -> dict[str, str]:
    """The mode that each changed file has then, by its name from the top; 000000: deleted."""
    words = git(root, "diff", "--raw", "--no-renames", "-z", *arguments).split("\0")
    return {name: form.split(" ")[1] for form, name in zip(words[::2], words[1::2], strict=False)}


def _shown(root: Path, commit: str, name: str) -> str:
    return git(root, "show", f"{commit}:./{name}", check=False)


def _places(text: str) -> Any:
    """A .dvc file less the version of the data."""

    def less(content: Any) -> Any:
        if isinstance(content, Mapping):
            return {k: less(v) for k, v in content.items() if k not in VERSIONS}
        return [less(one) for one in content] if isinstance(content, list) else content

    return less(YAML(typ="safe", pure=True).load(text)) if text else None


def _joined(root: Path, own: str, tip: str, fork: str) -> str:
    """The tree of `own` with what waits; where both changed a file, that of `own`.

    dvc.lock is then computed anew, for the most part from DVC's run cache; of the history both
    sides' lines are kept.
    """
    here = {*_names(root, fork, own, "--", *PRODUCTS)}
    theirs = _names(root, fork, tip, "--", *PRODUCTS)
    taken = [name for name in theirs if name not in here]
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", own, environ=index)
        if taken:
            git(root, "restore", f"--source={tip}", "--staged", "--", *taken, environ=index)
        if HISTORY in theirs and HISTORY in here:
            file = Path(folder) / "history"
            file.write_text(
                _both(_shown(root, own, HISTORY), _shown(root, tip, HISTORY)), encoding="utf-8"
            )
            blob = git(root, "hash-object", "-w", "--no-filters", str(file))
            full = git(root, "rev-parse", "--show-prefix") + HISTORY
            git(root, "update-index", "--cacheinfo", f"100644,{blob},{full}", environ=index)
        return git(root, "write-tree", environ=index)


def _both(one: str, other: str) -> str:
    """The lines of a text, then those that only the other has."""
    known = one.splitlines()
    lines = [*known, *(line for line in other.splitlines() if line not in known)]
    return "".join(f"{line}\n" for line in lines)


@contextmanager
def _moved(root: Path, own: str, joined: str) -> Iterator[None]:
    """Bring the files of the tree along, while HEAD goes from a commit to a tree of PRODUCTS."""
    names = _names(root, own, joined)
    here = {name for name in names if (root / name).exists()}
    known = {name for name in here if _shown(root, own, name)}
    touched = {*_names(root, own, "--", *names), *(here - known)}
    yield
    git(root, "reset", "--quiet", "--", *names)
    untouched = [name for name in names if name not in touched]
    if untouched:
        git(root, "checkout", "--quiet", "HEAD", "--", *untouched)
    if HISTORY in touched and (root / HISTORY).is_file():
        kept = (root / HISTORY).read_text(encoding="utf-8")
        write_text(root / HISTORY, _both(_shown(root, "HEAD", HISTORY), kept))
