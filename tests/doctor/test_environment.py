import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.doctor import environment

SECRET = "s3cret"


def look() -> tuple[dict[str, str], dict[str, str]]:
    """Level by key, and fact by name."""
    found = environment.look(environment.begin_probe())
    return {f.key: f.level for f in found.findings}, {f.name: f.text for f in found.facts}


@pytest.fixture(autouse=True)
def work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree of DVC's, outside git."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("MLFLOW_TRACKING_URI", "CLIPTUNE_ON_UNREACHABLE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / ".dvc").mkdir()
    return tmp_path


def git(*arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def test_dvc_needs_git_unless_told_otherwise(work_tree: Path) -> None:
    levels, facts = look()
    assert levels == {"git": "stops"}
    assert facts["git"] == "no repository"
    (work_tree / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    assert look()[0] == {}


def test_a_repository_before_and_after_its_first_commit() -> None:
    git("init")
    levels, facts = look()
    assert levels == {"git": "note"}
    assert facts["git"] == "no commit yet"
    git("add", "dvc.yaml")
    git("commit", "-m", "first")
    levels, facts = look()
    assert levels == {}
    assert len(facts["git"]) >= 7
    Path("dvc.yaml").write_text("stages:\n")
    assert look()[1]["git"].endswith(", 1 file changed since")


def test_elsewhere_there_is_nothing_to_run(work_tree: Path) -> None:
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    (work_tree / "dvc.yaml").unlink()
    assert look()[0] == {"dvc.yaml": "stops"}
    (work_tree / "dvc.yaml").touch()
    (work_tree / ".dvc").rmdir()
    assert look()[0] == {".dvc": "stops"}


def test_the_default_remote_is_named_without_its_secret(work_tree: Path) -> None:
    assert look()[1]["DVC remote"].startswith("none in .dvc/config")
    remote = f"['remote \"store\"']\n    url = https://me:{SECRET}@store.example/x\n"
    (work_tree / ".dvc/config").write_text(remote)
    assert look()[1]["DVC remote"].startswith("store, none of them the default")
    (work_tree / ".dvc/config.local").write_text("[core]\n    remote = store\n")
    assert look()[1]["DVC remote"] == "store (https://store.example/x)"


@pytest.mark.parametrize(("policy", "level"), [("", "note"), ("spool", "note"), ("fail", "stops")])
def test_a_tracking_server_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, policy: str, level: str
) -> None:
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("CLIPTUNE_ON_UNREACHABLE", policy)
    found = environment.look(environment.begin_probe())
    assert [(f.key, f.level) for f in found.findings] == [("MLFLOW_TRACKING_URI", level)]
    assert SECRET not in str(found)
    assert "http://127.0.0.1:9" in str(found)


def test_a_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        answer: Callable[[], str | None] = environment.begin_probe()
        assert answer() == "no answer yet"
        assert time.monotonic() - began < 4


def test_memory_and_disk_are_there() -> None:
    assert environment.host_memory() > 1e8
    assert environment.free_disk() > 0
