"""What a run is made from: git's side and DVC's, each in a small repository by hand."""

import os
import subprocess
from pathlib import Path

import pytest
from toy_tree import GRAPH, Toy

from pipeline import lineage
from pipeline.lineage_dvc import overlap, read_graph
from pipeline.tracking_runs import read_origin, write_sources
from pipeline.tracking_session import Session


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A git repository of one file, as the work tree of this process."""
    toy = Toy(tmp_path / "repo")
    toy.path.mkdir()
    monkeypatch.chdir(toy.path)
    toy.git("init", "-q", "-b", "main")
    toy.git("config", "user.email", "a@b")
    toy.git("config", "user.name", "a")
    Path("code.py").write_text("print(1)\n")
    toy.commit()
    return toy


def read(outputs: tuple[str, ...] = (), data: tuple[str, ...] = ()) -> lineage.Code:
    return lineage.read_code(outputs=outputs, data=data)


def test_a_clean_tree_is_its_commit(repo: Toy) -> None:
    commit = repo.git("rev-parse", "HEAD")
    assert read() == lineage.Code(commit, "main", None, dirty=False, patch=None, left_out=None)


def test_without_git_or_a_commit_there_is_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = lineage.Code(None, None, None, dirty=False, patch=None, left_out=None)
    assert read() == nothing
    subprocess.run(["git", "init", "-q"], check=True)
    assert read() == nothing
    monkeypatch.setenv("PATH", "")
    assert read() == nothing


def test_the_patch_holds_edits_deletions_and_new_files(repo: Toy, tmp_path: Path) -> None:
    Path("old.bin").write_bytes(bytes(range(256)))
    repo.commit()
    repo.git("config", "diff.noprefix", "true")
    repo.git("config", "color.ui", "always")
    Path("code.py").write_text("print(2)\n")
    Path("old.bin").unlink()
    Path("staged.txt").write_text("staged")
    repo.git("add", "staged.txt")
    Path("ünï codé.bin").write_bytes(bytes(range(255, -1, -1)))
    Path("link").symlink_to("code.py")
    before = repo.git("status", "--porcelain")
    code = read()
    assert repo.git("status", "--porcelain") == before
    assert (code.dirty, code.left_out) == (True, None)
    copy = Toy(tmp_path / "copy")
    repo.git("clone", "-q", ".", str(copy.path))
    (tmp_path / "patch").write_bytes(code.patch or b"")
    copy.git("apply", str(tmp_path / "patch"))
    assert (copy.path / "code.py").read_text() == "print(2)\n"
    assert not (copy.path / "old.bin").exists()
    assert (copy.path / "staged.txt").read_text() == "staged"
    assert (copy.path / "ünï codé.bin").read_bytes() == bytes(range(255, -1, -1))
    assert (copy.path / "link").readlink() == Path("code.py")


def test_outputs_locks_and_untracked_data_are_no_change(repo: Toy) -> None:
    for file in ("out/model.bin", "dvc.lock", "samples/dvc.lock", "raw/1.jpg"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("x")
    found = read(outputs=("out/model.bin",), data=("raw", "../elsewhere", "/abs", "s3://b/c"))
    assert (found.dirty, found.patch, found.left_out) == (False, None, None)
    assert read().dirty


def test_a_change_of_tracked_data_is_a_change(repo: Toy) -> None:
    Path("code.py").write_text("print(2)\n")
    assert read(data=("code.py",)).dirty
    assert not read(outputs=("code.py",)).dirty


def test_a_change_right_after_a_commit_is_a_change(repo: Toy) -> None:
    """Of the same size, and within a tick of the clock."""
    repo.git("config", "core.trustctime", "false")
    then = 1_700_000_000
    os.utime("code.py", (then, then))
    repo.git("add", "code.py")
    size = Path("code.py").stat().st_size
    Path("code.py").write_text("print(2)\n")
    for file in ("code.py", ".git/index"):
        os.utime(file, (then, then))
    assert Path("code.py").stat().st_size == size
    assert b"+print(2)" in (read().patch or b"")


def test_large_files_and_secrets_stay_out_and_are_named(repo: Toy) -> None:
    Path("big.bin").write_bytes(b"0" * (lineage.FILE_LIMIT + 1))
    Path("deploy.key").write_text("secret")
    Path("note.txt").write_text("kept")
    code = read()
    assert code.left_out == "not in the patch: big.bin, deploy.key"
    assert b"+kept" in (code.patch or b"")
    assert b"+secret" not in (code.patch or b"")


def test_a_patch_above_the_limit_is_not_stored(repo: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("code.py").write_text("x = 1\n" * 1_000_000)
    code = read()
    assert (code.dirty, code.patch) == (True, None)
    assert code.left_out == "the patch is above 5 MB and was not stored"


def test_a_detached_head_has_no_branch(repo: Toy) -> None:
    repo.git("checkout", "-q", "--detach")
    assert read().branch is None


def test_the_environment_names_the_installed_packages() -> None:
    found = lineage.environment()
    assert any(line.startswith("mlflow==3.") for line in found["packages"])
    digest = lineage.environment_digest(found)
    assert digest == lineage.environment_digest(found | {"cpus": -1})
    assert digest != lineage.environment_digest(found | {"packages": ["mlflow==0"]})


LOCK = """\
schema: '2.0'
stages:
  prepare:
    cmd: x
    deps: [{path: data/raw, hash: md5, md5: old.dir}]
    outs: [{path: out/prepared.txt, hash: md5, md5: p1}, {path: runs/prepare.json, md5: r1}]
  train:
    cmd: x
    outs: [{path: out/model.txt, hash: md5, md5: m1}]
"""

BELOW = """\
vars: [{name: clip}]
stages:
  fetch:
    wdir: ..
    cmd: x
    outs: ["hub/${name}"]
  make:
    cmd: x
    deps: [code.py]
    outs: [scenes: {cache: false}]
"""

BELOW_LOCK = """\
schema: '2.0'
stages:
  fetch: {cmd: x, outs: [{path: hub/clip, md5: h1.dir}]}
  make: {cmd: x, outs: [{path: scenes, md5: s1.dir}]}
"""


@pytest.fixture
def graph_files(repo: Toy) -> None:
    graph = GRAPH.replace("[out/prepared.txt, stages", '["hub/../${kind.name}", "hub/${m}", stages')
    Path("samples").mkdir()
    for name, text in {
        "dvc.yaml": graph,
        "dvc.lock": LOCK,
        "params.yaml": "kind: {name: samples/scenes}\nm: clip\n",
        "samples/dvc.yaml": BELOW,
        "samples/dvc.lock": BELOW_LOCK,
        "added.dvc": "outs:\n- {md5: a1, path: added}\n",
    }.items():
        Path(name).write_text(text)


def test_the_graph_is_read_over_all_dvc_files(graph_files: None) -> None:
    graph = read_graph()
    assert set(graph.stages) == {
        "prepare",
        "train",
        "record",
        "samples/dvc.yaml:fetch",
        "samples/dvc.yaml:make",
    }
    train = graph.stages["train"]
    assert train.data == ["samples/scenes", "hub/clip"]
    assert graph.inputs(train) == {"samples/scenes": "s1.dir", "hub/clip": "h1.dir"}
    assert graph.upstream(train) == ["fetch", "make"]
    assert graph.find("make") is graph.stages["samples/dvc.yaml:make"]
    assert graph.find("nothing") is None
    assert graph.sources == ["data/raw", "samples/code.py"]


def test_a_source_has_no_hash_before_its_stage_has_run(graph_files: None) -> None:
    prepare = read_graph().stages["prepare"]
    assert read_graph().inputs(prepare) == {"data/raw": None}
    assert prepare.dep_digests == {"data/raw": "old.dir"}


def test_added_data_has_the_hash_of_its_dvc_file(graph_files: None) -> None:
    Path("dvc.yaml").write_text("stages: {one: {cmd: x, deps: [added]}}\n")
    graph = read_graph()
    assert graph.inputs(graph.stages["one"]) == {"added": "a1"}


def test_the_result_digest_follows_outputs_not_receipts(graph_files: None) -> None:
    before = read_graph().result_digest()
    Path("dvc.lock").write_text(LOCK.replace("r1", "r2"))
    assert read_graph().result_digest() == before
    Path("dvc.lock").write_text(LOCK.replace("m1", "m2"))
    assert read_graph().result_digest() != before


def test_overlap() -> None:
    assert overlap("data", "data")
    assert overlap("data/raw", "data")
    assert overlap("data", "data/raw")
    assert not overlap("data", "database")


@pytest.fixture
def published(repo: Toy, tmp_path: Path) -> Toy:
    """The repository, of which a remote has all."""
    repo.git("init", "-q", "--bare", str(tmp_path / "origin.git"))
    repo.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    assert lineage.unpublished() is None  # nobody has asked the remote what it has
    repo.git("push", "-q", "origin", "main")
    return repo


def test_commits_that_no_remote_has_are_packed(published: Toy, tmp_path: Path) -> None:
    assert lineage.unpublished() is None
    Path("code.py").write_text("print(2)\n")
    commit = published.commit()
    packed = lineage.unpublished()
    assert packed is not None
    (tmp_path / "bundle").write_bytes(packed)
    other = Toy(tmp_path / "other")
    published.git("clone", "-q", str(tmp_path / "origin.git"), str(other.path), "-b", "main")
    other.git("fetch", "-q", str(tmp_path / "bundle"), "HEAD")
    assert other.git("show", f"{commit}:code.py") == "print(2)"
    published.git("push", "-q", "origin", "main")
    assert lineage.unpublished() is None


@pytest.mark.parametrize(("patch", "kept"), [("", True), ("off", False)])
def test_they_go_with_a_run_unless_patches_do_not(
    published: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: str, kept: bool
) -> None:
    Path("dvc.yaml").write_text(GRAPH)
    published.commit()
    monkeypatch.setenv("CLIPTUNE_PATCH", patch)
    write_sources(tmp_path / "source", read_origin(Session("s", None)))
    assert (tmp_path / "source/unpublished.bundle").is_file() == kept


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("binary", b"\0\1", "x"),
        ("large", os.urandom(1_200_000).hex().encode(), "x"),
        ("key.py", b'key = "AKIA' + b'QYLPMN5HHHFPZAM2"', "x"),
        ("code.py", b"print(2)", "with AKIA" + "QYLPMN5HHHFPZAM2"),
    ],
)
def test_commits_that_are_not_for_others_are_not(
    published: Toy, name: str, content: bytes, message: str
) -> None:
    Path(name).write_bytes(content)
    published.git("add", "-A")
    published.git("commit", "-qm", message)
    Path(name).unlink()
    published.git("commit", "-qam", "gone again")
    assert lineage.unpublished() is None
