"""Runs of every kind, built again from their record alone, after the code has moved on."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toy_tree import Run, Toy, by_role, make_toy

from pipeline.errors import DataError
from pipeline.registry import trees

pytest_plugins = ["toy_fixtures"]


@dataclass
class History:
    """A toy, and the complete runs of its past by what kind they are."""

    toy: Toy
    runs: dict[str, Run]

    def reproduce(
        self, kind: str, *options: str, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        run = self.runs[kind].info.run_id
        return self.toy.run("cliptune", "reproduce", run, *options, **environ)

    def report(self, kind: str) -> dict[str, Any]:
        file = self.toy.path / ".cliptune/reproduced" / f"{self.runs[kind].info.run_id}.json"
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def tags(self, kind: str) -> dict[str, str]:
        return dict(self.toy.client().get_run(self.runs[kind].info.run_id).data.tags)


def newest(toy: Toy) -> Run:
    """The newest complete pipeline run."""
    complete = [
        run
        for run in by_role(toy.runs(), "pipeline")
        if run.data.tags.get("pipeline.complete") == "true"
    ]
    return complete[-1]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Clean, dirty, queued, restored, and one of a source that only this tree holds."""
    toy = make_toy(tmp_path_factory.mktemp("history") / "toy")
    aside = toy.path / "aside/dvc.yaml"  # never run: nobody needs what it makes
    aside.parent.mkdir()
    aside.write_text(
        "stages: {aside: {cmd: touch made, deps: [../stages/toy_stage.py], outs: [made]}}"
    )
    toy.commit()
    runs = {}
    toy.dvc("repro")
    runs["clean"] = newest(toy)
    toy.commit()
    toy.set("lr: 0.25", "lr: 0.125")
    (toy.path / "note.txt").write_bytes(b"caf\xe9\r\n")
    toy.dvc("repro")
    runs["dirty"] = newest(toy)
    (toy.path / "note.txt").unlink()
    toy.commit()
    toy.dvc("exp", "run", "--queue", "-n", "queued", "-S", "train.lr=0.5")
    toy.dvc("queue", "start")
    toy.dvc("queue", "logs", "--follow", "queued")
    runs["queued"] = next(r for r in toy.runs() if r.info.run_name == "queued")
    # Both stages were run before, never in this combination: DVC brings them from its run cache.
    toy.set("lines: 3", "lines: 2")
    toy.dvc("repro", "prepare")
    toy.set("lines: 2", "lines: 3")
    toy.set("lr: 0.125", "lr: 0.25")
    toy.dvc("repro", "-f", "-s", "prepare")
    toy.dvc("repro")
    runs["restored"] = newest(toy)
    assert runs["restored"].info.run_name.startswith("restored ")
    toy.commit()
    # A refactoring: the stage's file has another name, and another stage comes before it.
    file = toy.path / "stages/toy_stage.py"
    file.rename(file.with_name("renamed.py"))
    graph = toy.path / "dvc.yaml"
    graph.write_text(graph.read_text().replace("toy_stage.py", "renamed.py"))
    toy.dvc("repro")
    runs["refactored"] = newest(toy)
    toy.commit()
    return History(toy, runs)


@pytest.mark.parametrize("kind", ["clean", "dirty", "queued", "restored", "refactored"])
def test_a_run_is_proved_without_running_anything(history: History, kind: str) -> None:
    before = len(history.toy.runs())
    done = history.reproduce(kind)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"# {history.runs[kind].info.run_name}: identical" in done.stdout
    assert history.tags(kind)["reproduced.verdict"] == "identical"
    assert (history.report(kind)["changes"], history.report(kind)["reasons"]) == ({}, [])
    assert len(history.toy.runs()) == before
    assert history.toy.git("worktree", "list").count("\n") == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dirty", "queued", "restored"])
def test_a_run_made_before_a_refactoring_runs_again_to_the_same_hashes(
    history: History, kind: str
) -> None:
    before = len(history.toy.runs())
    done = history.reproduce(kind, "--rerun")
    assert done.returncode == 0, done.stdout + done.stderr
    report = history.report(kind)
    assert report["verdict"] == history.tags(kind)["reproduced.verdict"] == "reproduced"
    assert "toy_stage.py train" in done.stdout  # the old code, by its old name
    assert len(report["outputs"]) == 4
    assert all(recorded == now for _, _, recorded, now in report["outputs"])
    assert {name: now for name, _, now in report["figures"]}["train/rows"] == 4
    assert len(history.toy.runs()) == before  # the rerun logs elsewhere
    name = history.tags(kind)["reproduced.at"].replace(":", "-")
    logged = history.toy.download(history.runs[kind].info.run_id, f"reproduced/{name}.md")
    assert logged.read_text().startswith(f"# {history.runs[kind].info.run_name}: reproduced\n")


def test_a_stage_is_proved_with_those_before_it(history: History) -> None:
    stage = history.runs["dirty"].data.tags["dvc.stage.train.run_id"]
    done = history.toy.run("cliptune", "reproduce", stage)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# stage train of repro \w{7}\+dirty .*: identical$", done.stdout, re.M)
    client = history.toy.client()
    assert client.get_run(stage).data.tags["reproduced.verdict"] == "identical"


def test_a_run_is_found_by_name_by_prefix_and_by_the_model_it_made(history: History) -> None:
    client, run = history.toy.client(), history.runs["queued"]
    train = run.data.tags["dvc.stage.train.run_id"]
    client.create_registered_model("toy")
    client.create_model_version("toy", source=f"runs:/{train}/model", run_id=train)
    client.set_registered_model_alias("toy", "champion", "1")
    titles = {
        "queued": "# queued: identical",
        run.info.run_id[:10]: "# queued: identical",
        "models:/toy/1": "# stage train of queued: identical",
        "models:/toy@champion": "# stage train of queued: identical",
    }
    for name, title in titles.items():
        assert title in history.toy.run("cliptune", "reproduce", name).stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0" * 32, "there is no run 00000000000000000000000000000000 in sqlite:"),
        ("nobody", "there is no run 'nobody' in sqlite:"),
        ("models:/nobody/1", "models:/nobody/1 is not registered in sqlite:"),
        ("models:/nobody@champion", "models:/nobody@champion is not registered in sqlite:"),
    ],
)
def test_an_unknown_run_is_one_line(history: History, name: str, message: str) -> None:
    done = history.toy.run("cliptune", "reproduce", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_another_patch_than_the_recorded_one_is_refused(history: History, tmp_path: Path) -> None:
    run = history.runs["dirty"].info.run_id
    kept = history.toy.download(run, "source/uncommitted.patch").read_bytes()
    forged = tmp_path / "uncommitted.patch"
    forged.write_bytes(kept.replace(b"0.125", b"0.25"))
    client = history.toy.client()
    client.log_artifact(run, str(forged), "source")
    try:
        done = history.reproduce("dirty")
        assert done.returncode == 1
        assert "uncommitted.patch is not the one that was recorded" in done.stderr
    finally:
        forged.write_bytes(kept)
        client.log_artifact(run, str(forged), "source")


def test_a_run_without_its_lock_is_not_proved(history: History) -> None:
    """By the lock of its commit, or by none, nothing would differ from anything."""
    run, client = history.runs["dirty"].info.run_id, history.toy.client()
    lock = history.toy.download(run, "source/dvc.lock")
    place = Path(client.get_run(run).info.artifact_uri.removeprefix("file://")) / "source/dvc.lock"
    try:
        place.unlink()
        done = history.reproduce("dirty")
        assert (done.returncode, done.stdout) == (1, "")
        assert "source/dvc.lock is missing, so there is nothing to prove it by" in done.stderr
        place.write_text("schema: '2.0'\nstages: {}\n")
        done = history.reproduce("dirty", "--rerun")
        assert (done.returncode, done.stdout) == (1, "")
        assert "its dvc.lock holds no outputs of prepare, train" in done.stderr
    finally:
        shutil.copyfile(lock, place)


def test_a_patch_of_another_run_does_not_stay(history: History) -> None:
    """An alias stands for one run today, and for another tomorrow."""
    client = history.toy.client()
    client.create_registered_model("moved")
    for version, kind in enumerate(["dirty", "clean"], start=1):
        train = history.runs[kind].data.tags["dvc.stage.train.run_id"]
        client.create_model_version("moved", source=f"runs:/{train}/model", run_id=train)
        client.set_registered_model_alias("moved", "champion", str(version))
        done = history.toy.run("cliptune", "reproduce", "models:/moved@champion")
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("the recorded patch is applied" in done.stderr) == (kind == "dirty")


def test_a_commit_of_a_record_is_a_hash_and_no_option_of_git(
    history: History, tmp_path: Path
) -> None:
    run, client = history.runs["clean"], history.toy.client()
    tag = "mlflow.source.git.commit"
    client.set_tag(run.info.run_id, tag, f"--output={tmp_path / 'written'}")
    try:
        for command in (["reproduce"], ["diff", history.runs["dirty"].info.run_id]):
            done = history.toy.run("cliptune", *command, run.info.run_id)
            assert (done.returncode, done.stdout) == (1, "")
            assert "is no hash of a git commit" in done.stderr
        assert not list(tmp_path.iterdir())
    finally:
        client.set_tag(run.info.run_id, tag, run.data.tags[tag])


def test_stages_run_again_where_no_cache_has_what_they_made(history: History) -> None:
    run = history.runs["clean"].info.run_id
    lock = history.toy.download(run, "source/dvc.lock").read_text()
    made = re.search(r"path: out/prepared.txt\n\s+hash: md5\n\s+md5: (\w+)", lock)
    assert made is not None
    kept = history.toy.path / ".dvc/cache/files/md5" / made[1][:2] / made[1][2:]
    content = kept.read_bytes()
    kept.unlink()
    try:
        done = history.reproduce("clean")
        assert (done.returncode, history.report("clean")["verdict"]) == (1, "differs")
        done = history.reproduce("clean", "--rerun")
        assert done.returncode == 0, done.stdout + done.stderr
        assert history.report("clean")["verdict"] == "reproduced"
    finally:
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(content)


def test_nothing_of_the_tree_nor_a_hook_is_run(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "toy")
    wrote = tmp_path / "wrote"
    toy.dvc("repro")
    toy.commit()  # with the lock, for whose outputs the hook of DVC's would look in an empty cache
    (toy.path / "argparse.py").write_text(f"open({str(wrote)!r}, 'w').close()\nraise ImportError\n")
    toy.git("add", "argparse.py")
    toy.set("seed: 7", "seed: 8")
    command = ["python", "-P", "-m", "dvc", "repro"]
    done = toy.run(*command, PYTHONSAFEPATH="1", PYTHONPATH=str(Path(__file__).parents[2]))
    (toy.path / "argparse.py").unlink()
    toy.git("add", "-A")
    wrote.unlink(missing_ok=True)
    assert "train" in done.stdout
    toy.dvc("install", "-q")
    run = newest(toy)
    patch = toy.download(run.info.run_id, "source/uncommitted.patch").read_bytes()
    assert b"argparse.py" in patch
    done = toy.run("cliptune", "reproduce", run.info.run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not wrote.exists()


def test_a_folder_with_a_file_outside_of_it_is_refused(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "toy")
    cache = toy.path / ".dvc/cache/files/md5"
    digest = "0123456789abcdef0123456789abcdef.dir"
    (cache / "01").mkdir(parents=True)
    listed = [{"md5": "f" * 32, "relpath": "../../outside.txt"}]
    (cache / "01" / digest[2:]).write_text(json.dumps(listed))
    entry = f"{{path: out, hash: md5, md5: {digest}}}"
    (toy.path / "dvc.yaml").write_text("stages: {x: {cmd: x, outs: [out]}}")
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "dvc.lock").write_text(
        f"schema: '2.0'\nstages: {{x: {{cmd: x, outs: [{entry}]}}}}\n"
    )
    commit = toy.commit()
    built = trees.worktree(toy.path, commit, tmp_path / "built")
    with built as tree, pytest.raises(DataError, match="outside of itself"):
        trees.restore(tree, toy.path, patch=b"", sources=sources)


def test_a_hash_that_is_none_names_no_file(history: History) -> None:
    assert trees.cached(history.toy.path, "ab/etc/passwd") is None


def test_an_output_of_other_bytes_is_named(history: History, tmp_path: Path) -> None:
    """The record says what its code does not make: a lock of other hashes."""
    run = history.runs["clean"].info.run_id
    kept = history.toy.download(run, "source/dvc.lock").read_text()
    model = re.search(r"path: out/model.txt\n\s+hash: md5\n\s+md5: (\w+)", kept)
    assert model is not None
    forged = tmp_path / "dvc.lock"
    forged.write_text(kept.replace(model.group(1), "f" * 32))
    client = history.toy.client()
    client.log_artifact(run, str(forged), "source")
    try:
        done = history.reproduce("clean", "--rerun")
        report = history.report("clean")
        assert (done.returncode, report["verdict"]) == (1, "differs")
        other = [one for one in report["outputs"] if one[2] != one[3]]
        assert other == [["train", "out/model.txt", "f" * 32, model.group(1)]]
        assert "1 of 4 outputs have other bytes" in done.stdout
        assert "equal bytes are expected" in done.stdout
        # On another machine the same is within tolerances, since no metric differs.
        report = history.report("clean")
        assert all(recorded == now for _, recorded, now in report["figures"])
    finally:
        forged.write_text(kept)
        client.log_artifact(run, str(forged), "source")


def test_on_another_kind_of_processor_metrics_decide(history: History, tmp_path: Path) -> None:
    run, client = history.runs["clean"].info.run_id, history.toy.client()
    lock = history.toy.download(run, "source/dvc.lock").read_text()
    environment = history.toy.download(run, "source/environment.json").read_text()
    found = json.loads(environment)
    assert found["cpu"]
    model = re.search(r"path: out/model.txt\n\s+hash: md5\n\s+md5: (\w+)", lock)
    assert model is not None
    other = {
        "dvc.lock": lock.replace(model.group(1), "f" * 32),
        "environment.json": json.dumps(found | {"cpu": "another"}),
    }
    try:
        for name, text in other.items():
            (tmp_path / name).write_text(text)
            client.log_artifact(run, str(tmp_path / name), "source")
        done = history.reproduce("clean", "--rerun")
        assert done.returncode == 0, done.stdout
        assert history.report("clean")["verdict"] == "within tolerances"
        assert f"cpu: another → {found['cpu']}" in done.stdout
    finally:
        for name, text in {"dvc.lock": lock, "environment.json": environment}.items():
            (tmp_path / name).write_text(text)
            client.log_artifact(run, str(tmp_path / name), "source")


def test_a_source_of_this_tree_alone_is_borrowed_and_one_that_changed_is_told(
    tmp_path: Path,
) -> None:
    """Neither git nor DVC holds it: DVC has its hash, so what is here can be compared."""
    toy = make_toy(tmp_path / "toy")
    with (toy.path / ".gitignore").open("a") as file:
        file.write("/data/raw/\n")
    toy.git("rm", "-q", "-r", "--cached", "data/raw")
    toy.commit()
    toy.dvc("repro")
    history = History(toy, {"own": newest(toy)})
    done = history.reproduce("own")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data/raw is neither in git nor in DVC: taken from this work tree" in done.stdout
    (toy.path / "data/raw/rows.txt").write_text("row 1\n")
    done = history.reproduce("own")
    assert (done.returncode, history.report("own")["verdict"]) == (1, "differs")
    assert "prepare: changed deps: data/raw (modified)" in done.stdout
    done = history.reproduce("own", "--rerun")
    assert done.returncode == 1
    assert "not run: their inputs are not the recorded ones" in done.stdout
    shutil.rmtree(toy.path / "data/raw")
    done = history.reproduce("own")
    assert done.returncode == 1
    assert "data/raw is in no cache and no remote" in done.stdout


def test_a_second_clone_takes_data_from_the_remote(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "toy")
    toy.dvc("repro")
    run = newest(toy).info.run_id
    toy.dvc("remote", "add", "-d", "store", "../store")  # after the run's commit; a path from .dvc
    toy.commit()
    toy.dvc("push")
    store = toy.path / "mlflow.db"
    toy.git("clone", "-q", str(toy.path), str(tmp_path / "second"))
    second = Toy(tmp_path / "second")
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    done = second.run("cliptune", "reproduce", run, **uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": identical" in done.stdout
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(second.path / ".dvc/cache")
    done = second.run("cliptune", "reproduce", run, **uri)
    assert done.returncode == 1
    assert "out/model.txt is in no cache and no remote" in done.stdout


def test_a_commit_that_was_never_published_comes_with_its_run(tmp_path: Path) -> None:
    """As of a retraining that trained and could not push: its commit is taken back."""
    toy, origin = make_toy(tmp_path / "toy"), tmp_path / "origin.git"
    toy.dvc("remote", "add", "-d", "store", "../store")
    toy.commit()
    toy.git("init", "-q", "--bare", "-b", "main", str(origin))
    toy.git("remote", "add", "origin", str(origin))
    toy.git("push", "-q", "origin", "main")
    (toy.path / "data/raw/rows.txt").write_text("row 1\nrow 4\n")
    commit = toy.commit()
    toy.dvc("repro")
    toy.dvc("push")
    run = newest(toy)
    assert run.data.tags["mlflow.source.git.commit"] == commit
    assert run.data.tags["reproducible"] == "yes"
    toy.git("clone", "-q", str(origin), str(tmp_path / "second"))
    second = Toy(tmp_path / "second")
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{toy.path}/mlflow.db"}
    done = second.run("cliptune", "reproduce", run.info.run_id, **uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": identical" in done.stdout
    assert second.git("status", "--porcelain") == ""
    assert second.git("branch", "--all", "--contains", commit) == ""


def test_a_commit_that_is_nowhere_is_told(history: History, tmp_path: Path) -> None:
    other = make_toy(tmp_path / "other")
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{history.toy.path}/mlflow.db"}
    run = history.runs["clean"]
    done = other.run("cliptune", "reproduce", run.info.run_id, **uri)
    assert done.returncode == 1
    commit = run.data.tags["mlflow.source.git.commit"]
    assert done.stderr.startswith(f"error: commit {commit} can't be checked out")


def test_a_stage_whose_pipeline_never_ended_has_no_proof(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "toy")
    toy.dvc("repro", "prepare")
    parent, stage = toy.runs()
    done = toy.run("cliptune", "reproduce", stage.info.run_id)
    assert "whose pipeline was never completed" in done.stderr
    done = toy.run("cliptune", "reproduce", parent.info.run_id)
    assert "is not complete, so it holds no dvc.lock" in done.stderr
    assert done.returncode == 1
