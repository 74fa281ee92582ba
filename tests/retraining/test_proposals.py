"""Pull requests of weeks that stand on each other, with a real git origin."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.retraining import proposals, tree
from pipeline.retraining.commands import git
from pipeline.retraining.commits import Commits
from pipeline.retraining.proposals import Proposal

IMPORTED = "frozen: true\ndeps:\n- path: s3://bucket/new\nouts:\n- path: mine\n"
BRANCH = "retrain/main"


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An origin with one commit on main."""
    for name in ("GITHUB_REF_NAME", "CI_COMMIT_BRANCH"):
        monkeypatch.delenv(name, raising=False)
    bin_alone = tmp_path / "bin"  # no gh, whatever is installed
    bin_alone.mkdir()
    for name in ("git", "sh"):
        (bin_alone / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(bin_alone))
    origin = tmp_path / "origin.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", str(origin))
    first = clone(origin)
    git(first, "switch", "--quiet", "--create", "main")
    (first / "params.yaml").write_text("seed: 0\n")
    (first / "data").mkdir()
    (first / "data/mine.dvc").write_text(IMPORTED)
    (first / ".gitignore").write_text("/.cliptune\n")
    (first / ".gitattributes").write_text("metrics/history.csv merge=union\n")
    (first / "metrics").mkdir()
    (first / "metrics/history.csv").write_text("week\n")
    saved(first, "first")
    git(first, "push", "--quiet", "origin", "main")
    return origin


def clone(origin: Path) -> Path:
    folder = origin.parent / f"clone-{len(list(origin.parent.glob('clone-*')))}"
    git(origin.parent, "clone", "--quiet", str(origin), str(folder))
    return folder


def saved(folder: Path, title: str) -> None:
    git(folder, "add", "--all")
    git(folder, *tree.IDENTITY, "commit", "--quiet", "--message", title)


def others_push(origin: Path, name: str, text: str, branch: str = "main") -> None:
    folder = clone(origin)
    git(folder, "switch", "--quiet", branch)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    if not text:
        (folder / name).unlink()
    saved(folder, f"theirs: {name}")
    git(folder, "push", "--quiet", "origin", branch)


def titles(origin: Path, branch: str = BRANCH) -> list[str]:
    return git(origin, "log", "--topo-order", "--format=%s", branch).splitlines()


def branches(origin: Path) -> list[str]:
    return git(origin, "branch", "--format=%(refname:short)").splitlines()


def week(folder: Path, number: int) -> Proposal:
    """What a retraining does to git: a version of the data, dvc.lock, a line of the history."""
    commits = Commits(folder)
    proposal = proposals.taken_up(folder, "main", commits)
    (folder / "data/mine.dvc").write_text(f"{IMPORTED}  md5: {number}\n")
    commits.add(tree.data_files(folder), f"Data {number}")
    (folder / "dvc.lock").write_text(f"week {number}\n")
    history = folder / tree.paths.RETRAINED
    history.parent.mkdir(exist_ok=True)
    known = history.read_text() if history.is_file() else "week\n"
    history.write_text(f"{known}{number}\n")
    commits.add(tree.products(folder), f"Retrained {number}")
    proposals.proposed(folder, proposal, title="t", body=folder / "b")
    commits.take_back()
    return proposal


def test_weeks_on_new_machines_stand_on_each_other_in_one_branch(origin: Path) -> None:
    for number in (1, 2, 3):
        folder = clone(origin)
        proposal = week(folder, number)
    assert proposal.notes == ["This goes on from retrain/main, which nobody has merged yet."]
    assert branches(origin) == ["main", BRANCH]
    assert titles(origin)[:2] == ["Retrained 3", "Data 3"]
    assert len(titles(origin)) == 7
    assert git(origin, "show", f"{BRANCH}:metrics/history.csv") == "week\n1\n2\n3"
    assert git(folder, "log", "--format=%s", "HEAD") == "first"  # main is as it was


def test_on_a_machine_that_stays_its_files_are_those_of_the_branch(origin: Path) -> None:
    folder = clone(origin)
    for number in (1, 2):
        week(folder, number)
    assert titles(origin) == ["Retrained 2", "Data 2", "Retrained 1", "Data 1", "first"]
    tree.require_clean(folder)
    other = clone(origin)
    week(other, 3)  # another machine's week is not lost by the next one here
    week(folder, 4)
    assert git(origin, "show", f"{BRANCH}:metrics/history.csv") == "week\n1\n2\n3\n4"


def test_a_week_that_changes_nothing_more_is_no_commit(origin: Path) -> None:
    week(clone(origin), 1)
    folder = clone(origin)
    commits = Commits(folder)
    proposals.taken_up(folder, "main", commits)
    assert not tree.ahead(folder)
    assert (folder / "dvc.lock").read_text() == "week 1\n"
    assert commits.add(tree.products(folder), "nothing") is None
    commits.take_back()
    assert git(folder, "log", "--format=%s") == "first"


def test_what_came_into_main_meanwhile_comes_first(origin: Path) -> None:
    week(clone(origin), 1)
    others_push(origin, "params.yaml", "seed: 1\n")
    others_push(origin, "dvc.lock", "theirs\n")
    others_push(origin, "metrics/history.csv", "week\n0\n")
    folder = clone(origin)
    commits = Commits(folder)
    proposals.taken_up(folder, "main", commits)
    assert (folder / "params.yaml").read_text() == "seed: 1\n"
    assert (folder / "dvc.lock").read_text() == "theirs\n"
    assert (folder / "data/mine.dvc").read_text().endswith("md5: 1\n")
    assert (folder / "metrics/history.csv").read_text() == "week\n0\n1\n"
    assert git(folder, "status", "--porcelain") == ""
    commits.take_back()
    week(folder, 2)
    git(folder, "merge-base", "--is-ancestor", "origin/main", f"origin/{BRANCH}")  # mergeable


def test_a_joined_commit_that_was_taken_back_keeps_its_name(origin: Path) -> None:
    """Runs have recorded it."""
    week(clone(origin), 1)
    others_push(origin, "params.yaml", "seed: 1\n")
    folder, made = clone(origin), []
    for second in (1, 2):
        commits = Commits(folder)
        with pytest.MonkeyPatch.context() as clock:
            clock.setenv("GIT_COMMITTER_DATE", f"2026-01-0{second}T00:00:00")
            proposals.taken_up(folder, "main", commits)
        made.append(git(folder, "rev-parse", "HEAD"))
        commits.take_back()
    assert made[0] == made[1]


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("how", ["merge", "squash"])
def test_what_was_merged_is_proposed_no_more(origin: Path, how: str, edited: bool) -> None:
    week(clone(origin), 1)
    if edited:
        others_push(origin, "params.yaml", "seed: 1\n", BRANCH)
    merging = clone(origin)
    option = ["--squash"] if how == "squash" else ["--no-ff", "--no-edit"]
    git(merging, *tree.IDENTITY, "merge", "--quiet", *option, f"origin/{BRANCH}")
    if how == "squash":
        saved(merging, "Retrained (#1)")
    git(merging, "push", "--quiet", "origin", "main")
    proposal = week(clone(origin), 2)
    assert list(proposal.notes) == []
    assert branches(origin) == ["main", BRANCH]
    assert titles(origin)[:2] == ["Retrained 2", "Data 2"]
    assert titles(origin)[2] == titles(origin, "main")[0]
    assert git(origin, "show", f"{BRANCH}:metrics/history.csv") == "week\n1\n2"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("stages.py", "import os\n", "a change of stages.py"),
        ("data/mine.dvc", IMPORTED.replace("bucket", "theirs"), "other sources in data/mine.dvc"),
        ("data/more.dvc", IMPORTED.replace("mine", "more"), "other sources in data/more.dvc"),
        ("metrics/history.csv", "", "a change of metrics/history.csv"),
    ],
)
def test_what_nobody_looked_at_is_not_run(origin: Path, name: str, text: str, said: str) -> None:
    week(clone(origin), 1)
    others_push(origin, name, text, BRANCH)
    proposal = week(clone(origin), 2)
    (note,) = proposal.notes
    assert note.startswith(f"{BRANCH} of origin holds {said}, which nobody has looked at: it is ")
    assert proposal.branch == f"{BRANCH}+2"
    assert titles(origin, proposal.branch) == ["Retrained 2", "Data 2", "first"]
    assert titles(origin)[0] == f"theirs: {name}"
    notes = week(clone(origin), 3).notes  # goes on from the second as from the first
    assert notes == [note, f"This goes on from {BRANCH}+2, which nobody has merged yet."]
    assert titles(origin, f"{BRANCH}+2")[:3] == ["Retrained 3", "Data 3", "Retrained 2"]
    assert branches(origin) == ["main", BRANCH, f"{BRANCH}+2"]
    git(origin, "branch", "--quiet", "-D", BRANCH)  # refused; the other still waits
    assert list(week(clone(origin), 4).notes) == notes[1:]
    assert branches(origin) == ["main", f"{BRANCH}+2"]


def test_a_link_on_the_branch_is_not_followed(origin: Path) -> None:
    """It would be read into the history, and pushed."""
    week(clone(origin), 1)
    folder = clone(origin)
    git(folder, "switch", "--quiet", BRANCH)
    (folder / "metrics/history.csv").unlink()
    (folder / "metrics/history.csv").symlink_to("/proc/self/environ")
    saved(folder, "theirs")
    git(folder, "push", "--quiet", "origin", BRANCH)
    runner = clone(origin)
    (note,) = proposals.taken_up(runner, "main", Commits(runner)).notes
    assert "holds a change of metrics/history.csv" in note
    assert not (runner / "metrics/history.csv").is_symlink()


def test_a_file_that_was_moved_away_is_seen(origin: Path) -> None:
    week(clone(origin), 1)
    folder = clone(origin)
    git(folder, "switch", "--quiet", BRANCH)
    (folder / "x").mkdir()
    git(folder, "mv", "params.yaml", "x/dvc.lock")
    saved(folder, "theirs")
    git(folder, "push", "--quiet", "origin", BRANCH)
    (note,) = week(clone(origin), 2).notes
    assert "holds a change of params.yaml" in note


@pytest.mark.parametrize("content", [b"<<<<<<< a\nouts: [\n", b"outs: \xff\n"])
def test_an_unreadable_file_on_the_branch_stops_nobody(origin: Path, content: bytes) -> None:
    week(clone(origin), 1)
    folder = clone(origin)
    git(folder, "switch", "--quiet", BRANCH)
    (folder / "data/mine.dvc").write_bytes(content)
    saved(folder, "theirs")
    git(folder, "push", "--quiet", "origin", BRANCH)
    (note,) = week(clone(origin), 2).notes
    assert "holds an unreadable data/mine.dvc" in note


def test_branches_of_like_names_are_others(origin: Path) -> None:
    for name in (f"{BRANCH}-2", f"{BRANCH}-line", "retrain/maintenance", "retrain/other"):
        git(origin, "branch", name, "main")
    assert week(clone(origin), 1).branch == BRANCH
    assert week(clone(origin), 2).branch == BRANCH


def test_a_branch_that_was_refused_and_deleted_is_forgotten(origin: Path) -> None:
    week(clone(origin), 1)
    folder = clone(origin)  # which knows the branch
    git(origin, "branch", "--quiet", "-D", BRANCH)
    assert list(week(folder, 2).notes) == []
    assert titles(origin) == ["Retrained 2", "Data 2", "first"]


def test_a_push_that_somebody_else_came_before_is_refused(origin: Path) -> None:
    week(clone(origin), 1)
    folder = clone(origin)
    commits = Commits(folder)
    proposal = proposals.taken_up(folder, "main", commits)
    week(clone(origin), 2)
    (folder / "dvc.lock").write_text("mine\n")
    commits.add(tree.products(folder), "Retrained")
    with pytest.raises(DataError, match="git push failed"):
        proposals.proposed(folder, proposal, title="t", body=folder / "b")
    assert titles(origin)[0] == "Retrained 2"


def program(folder: Path, text: str) -> None:
    """A program in gh's place, which keeps its arguments: the real one needs GitHub."""
    gh = folder / "bin/gh"
    gh.write_text(f'#!/bin/sh\nfor word in "$@"; do echo "$word"; done >> {folder}/asked\n{text}')
    gh.chmod(0o755)


ENDS = ["--head", BRANCH, "--base", "main"]
LIST = ["pr", "list", *ENDS, "--state", "open", "--json", "number,url,isCrossRepository",
        "--jq", proposals.OURS]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "said", "asked"),
    [
        (
            '[ "$2" = list ] || echo https://host/pull/7\n',
            "https://host/pull/7",
            ["pr", "create", "--title", "t", "--body-file", "b", *ENDS],
        ),
        (
            '[ "$2" = list ] && echo 7 https://host/pull/7 || true\n',
            "https://host/pull/7",
            ["api", "--silent", "--method", "PATCH", "repos/{owner}/{repo}/pulls/7",
             "--raw-field", "title=t", "--field", "body=@b"],
        ),
        (
            "echo no token >&2; exit 1\n",
            "open a pull request from it to main, if there is none (gh: no token)",
            [],
        ),
    ],
)  # fmt: skip
def test_gh_makes_a_pull_request_or_renews_the_one_that_is_open(
    origin: Path, answer: str, said: str, asked: list[str]
) -> None:
    program(origin.parent, answer)
    folder = clone(origin)
    told = proposals.proposed(folder, Proposal(BRANCH), title="t", body=Path("b"))
    assert told == f"pushed to {BRANCH}; {said}"
    assert (origin.parent / "asked").read_text().splitlines() == [*LIST, *asked]


def test_without_gh_a_person_opens_it(origin: Path) -> None:
    told = proposals.proposed(clone(origin), Proposal(BRANCH), title="t", body=Path("b"))
    assert told == (
        "pushed to retrain/main; open a pull request from it to main, if there is none "
        "(there is no gh here)"
    )


GH = shutil.which("gh")
ADDRESS = "https://github.com/team/clip/pull/7"


class GitHub(ThreadingUnixStreamServer):
    """As much of GitHub as gh asks for a pull request, on a socket."""

    requests: list[dict[str, Any]]

    def get_request(self) -> tuple[Any, Any]:
        return super().get_request()[0], ("gh", 0)

    def answer(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        query, given = asked.get("query", ""), asked.get("variables", {}).get("input", {})
        if "PullRequestCreate" in query:
            self.requests.append(
                {"number": 7, "url": "https://github.com/team/clip/pull/7"} | given
            )
            return {"createPullRequest": {"pullRequest": {"id": "P", **self.requests[0]}}}
        if "pullRequests" in query:
            found = {"nodes": self.requests, "totalCount": len(self.requests), "pageInfo": {}}
            return {"repository": {"pullRequests": found}}
        if path == "/repos/team/clip/pulls/7":
            self.requests[0] |= asked
            return {}
        about = {"id": "R", "name": "clip", "owner": {"login": "team"}, "viewerPermission": "WRITE",
                 "defaultBranchRef": {"name": "main"}}  # fmt: skip
        return {"repository": about, "repo_000": about, "viewer": {"login": "retrain"}}


class Handler(BaseHTTPRequestHandler):
    server: GitHub

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = json.dumps({"data": self.server.answer(self.path, asked)}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PATCH = do_POST  # noqa: N815 - so the server calls it

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def github(origin: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    """GitHub in the place where the gh of PATH looks for it."""
    (origin.parent / "bin/gh").symlink_to(GH or "")
    folder = origin.parent / "gh"
    folder.mkdir()
    (folder / "config.yml").write_text(f"http_unix_socket: {folder / 'socket'}\n")
    monkeypatch.setenv("GH_CONFIG_DIR", str(folder))
    monkeypatch.setenv("GH_TOKEN", "x")
    monkeypatch.delenv("GH_REPO", raising=False)
    with GitHub(str(folder / "socket"), Handler) as server:
        server.requests = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.skipif(GH is None, reason="gh, GitHub's command, is not installed")
def test_gh_itself_makes_one_and_renews_it(origin: Path, github: GitHub) -> None:
    folder = clone(origin)
    git(folder, "remote", "add", "github", "https://github.com/team/clip")
    for title, text in (("week 1", "@held"), ("week 2", "# promoted\n")):
        (folder / ".git/body").write_text(text)
        told = proposals.proposed(folder, Proposal(BRANCH), title=title, body=folder / ".git/body")
        assert told == f"pushed to {BRANCH}; {ADDRESS}"
        (made,) = github.requests
        assert (made["title"], made["body"]) == (title, text)
    assert (made["baseRefName"], made["headRefName"]) == ("main", BRANCH)
