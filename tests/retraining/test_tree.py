"""The work tree of a retraining: what may lie in it, and its way to a real git origin."""

from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.retraining import tree
from pipeline.retraining.commands import git
from pipeline.retraining.commits import Commits

IMPORTED = "frozen: true\ndeps:\n- path: s3://bucket/new\nouts:\n- path: mine\n"
ADDED = "outs:\n- path: folder\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of an origin with one commit on main."""
    for name in ("GITHUB_REF_NAME", "CI_COMMIT_BRANCH"):
        monkeypatch.delenv(name, raising=False)
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", str(origin))
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))
    git(clone, "switch", "--quiet", "--create", "main")
    (clone / "params.yaml").write_text("seed: 0\n")
    (clone / "data").mkdir()
    (clone / "data/mine.dvc").write_text(IMPORTED)
    (clone / "data/folder.dvc").write_text(ADDED)
    (clone / ".gitignore").write_text("/data/folder\n/data/mine\n/.cliptune\n")
    git(clone, "add", "--all")
    git(clone, *tree.IDENTITY, "commit", "--quiet", "--message", "first")
    git(clone, "push", "--quiet", "origin", "main")
    return clone


def titles(origin_of: Path, branch: str = "main") -> list[str]:
    origin = git(origin_of, "config", "remote.origin.url")
    return git(Path(origin), "log", "--format=%s", branch).splitlines()


def retrained(here: Path, lock: str = "new") -> str | None:
    (here / "dvc.lock").write_text(lock)
    return Commits(here).add(tree.products(here), "Retrained: promote", "all gates passed")


def test_what_is_in_no_commit_stops_it_and_what_a_retraining_leaves_does_not(here: Path) -> None:
    (here / "dvc.lock").write_text("half")
    (here / "data/mine.dvc").write_text(IMPORTED + "md5: 0\n")
    (here / "metrics").mkdir()
    (here / "metrics/history.csv").write_text("date\n")
    tree.require_clean(here)
    assert tree.touched(here)
    (here / "params.yaml").write_text("seed: 1\n")
    (here / "stray.py").write_text("")
    with pytest.raises(DataError, match=r"not committed: params\.yaml, stray\.py\. Commit them"):
        tree.require_clean(here)


def test_a_folder_without_a_commit_is_no_place_for_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no git commit"):
        tree.require_clean(tmp_path)


def test_imports_are_fetched_and_folders_that_are_there_are_watched(here: Path) -> None:
    assert tree.imports(here) == ["data/mine.dvc"]
    assert tree.watched(here) == {}  # a fresh clone has no data
    (here / "data/folder").mkdir()
    assert tree.watched(here) == {"data/folder.dvc": "data/folder"}


def test_a_commit_holds_what_a_retraining_changed_and_can_be_taken_back(here: Path) -> None:
    before = git(here, "rev-parse", "HEAD")
    commits = Commits(here)
    assert commits.add(tree.products(here), "nothing") is None
    (here / "dvc.lock").write_text("new")
    made = commits.add(tree.products(here), "Retrained: promote", "all gates passed")
    assert made == git(here, "rev-parse", "HEAD") != before
    assert git(here, "show", "--name-only", "--format=%s%n%b", "HEAD").split("\n") == [
        "Retrained: promote", "all gates passed", "", "", "dvc.lock"]  # fmt: skip
    commits.take_back()
    assert git(here, "rev-parse", "HEAD") == before
    assert (here / "dvc.lock").read_text() == "new"


def test_a_commit_is_pushed_to_the_branch_the_tree_is_on(here: Path) -> None:
    retrained(here)
    assert tree.pushed(here) == "pushed to main"
    assert titles(here) == ["Retrained: promote", "first"]


def test_what_others_pushed_meanwhile_is_merged_and_a_conflict_is_told(here: Path) -> None:
    other = here.parent / "other"
    git(here.parent, "clone", "--quiet", git(here, "config", "remote.origin.url"), str(other))
    (other / "README").write_text("more")
    git(other, "add", "--all")
    git(other, *tree.IDENTITY, "commit", "--quiet", "--message", "theirs")
    git(other, "push", "--quiet", "origin", "main")
    mine = retrained(here)
    tree.pushed(here)
    origin = Path(git(here, "config", "remote.origin.url"))
    assert str(mine) in git(origin, "log", "--format=%H", "main").splitlines()  # not renamed
    assert "theirs" in titles(here)
    git(other, "pull", "--quiet")
    (other / "dvc.lock").write_text("their own")
    git(other, *tree.IDENTITY, "commit", "--quiet", "--all", "--message", "their lock")
    git(other, "push", "--quiet", "origin", "main")
    retrained(here, "and mine")
    with pytest.raises(DataError, match=r"other changes of dvc\.lock to main .* `git pull`"):
        tree.pushed(here)
    assert (here / "dvc.lock").read_text() == "and mine"
    assert git(here, "status", "--porcelain") == ""
    assert titles(here)[0] == "their lock"


def test_a_checkout_without_a_branch_takes_the_one_that_ci_names(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(here, "switch", "--quiet", "--detach")
    retrained(here)
    with pytest.raises(DataError, match="git is on no branch"):
        tree.pushed(here)
    monkeypatch.setenv("GITHUB_REF_NAME", "--force")
    with pytest.raises(DataError, match="git is on no branch"):
        tree.pushed(here)
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    tree.pushed(here)
    assert titles(here)[0] == "Retrained: promote"


def test_no_origin_is_one_message(here: Path) -> None:
    git(here, "remote", "remove", "origin")
    with pytest.raises(DataError, match="git has no remote called origin"):
        tree.pushed(here)


def test_another_way_to_publish_is_refused() -> None:
    assert tree.to_publish("pull-request") == "pull-request"
    with pytest.raises(ConfigError, match="'push': set it to none, commit, pull-request"):
        tree.to_publish("push")


def test_a_merge_of_somebody_s_is_not_ended(here: Path) -> None:
    (here / ".git/MERGE_HEAD").write_text(git(here, "rev-parse", "HEAD"))
    with pytest.raises(DataError, match=r"in the middle of something \(MERGE_HEAD\)"):
        tree.require_clean(here)


def test_new_data_that_nobody_committed_are_named_as_they_are_called(here: Path) -> None:
    (here / "data/größe.dvc").write_text(ADDED)
    (here / "straße.py").write_text("")
    with pytest.raises(DataError, match=r"not committed: straße\.py, data/größe\.dvc\. Commit"):
        tree.require_clean(here)


def test_a_tag_is_no_branch_to_publish_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(here, "switch", "--quiet", "--detach")
    monkeypatch.setenv("GITHUB_REF_NAME", "v1")
    assert tree.destination(here) == "v1"
    monkeypatch.setenv("GITHUB_REF_TYPE", "tag")
    with pytest.raises(DataError, match="git is on no branch"):
        tree.destination(here)


def torn(here: Path, name: str) -> None:
    """As `git pull --autostash` leaves a file, which ends with 0 then."""
    (here / name).write_text("theirs")
    git(here, "add", name)
    git(here, *tree.IDENTITY, "commit", "--quiet", "--message", "lock")
    for text in ("mine", "theirs too"):
        (here / name).write_text(text)
        git(here, *(("stash", "--quiet") if text == "mine" else ("commit", "--quiet", "-am", "2")))
    git(here, "stash", "apply", check=False)
    assert "<<<<<<<" in (here / name).read_text()


def test_what_an_autostash_could_not_merge_is_mended(here: Path) -> None:
    torn(here, "dvc.lock")
    with pytest.raises(DataError, match=r"merge dvc\.lock: .*`git checkout HEAD -- dvc\.lock`"):
        tree.require_clean(here)
    assert tree.mended(here) == ["dvc.lock"]
    tree.require_clean(here)
    assert (here / "dvc.lock").read_text() == "theirs too"
    assert git(here, "show", "stash@{0}:dvc.lock") == "mine"  # nothing is lost
    assert tree.mended(here) == []


def test_what_else_could_not_be_merged_is_told(here: Path) -> None:
    torn(here, "params.yaml")
    assert tree.mended(here) == []
    with pytest.raises(DataError, match=r"git could not merge params\.yaml: take"):
        tree.require_clean(here)
