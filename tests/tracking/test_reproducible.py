"""A run says whether it can be made again, and else why not."""

from pathlib import Path

import pytest
from toy_tree import Numbers, Toy

from pipeline import lineage, lineage_dvc, lineage_gaps, recording, tracking
from pipeline.lineage_gaps import NO_REMOTE

pytest_plugins = ["toy_fixtures"]

MINE = "stages: {one: {cmd: x, deps: [data/mine, code.py]}}\n"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A repository whose pipeline reads data/mine, which git ignores."""
    toy = Toy(tmp_path / "repo")
    (toy.path / "data/mine").mkdir(parents=True)
    monkeypatch.chdir(toy.path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    toy.git("init", "-q", "-b", "main")
    toy.git("config", "user.email", "a@b")
    toy.git("config", "user.name", "a")
    for name, text in {"dvc.yaml": MINE, "code.py": "1", ".gitignore": "/data/*\n"}.items():
        Path(name).write_text(text)
    toy.commit()
    return toy


def gaps(*, patched: bool = True) -> list[str]:
    graph = lineage_dvc.read_graph()
    code = lineage.read_code(outputs=graph.outs, data=graph.sources, patched=patched)
    return lineage_gaps.found(code, graph)


def test_what_git_or_dvc_keeps_is_no_gap(repo: Toy) -> None:
    assert gaps() == []
    Path("data/mine/1.jpg").write_text("x")
    assert gaps() == ["data/mine is neither in git nor in DVC: `dvc add data/mine`"]
    Path("data/mine.dvc").write_text("outs: [{md5: a.dir, path: mine}]\n")
    assert gaps() == []


def test_what_lies_in_a_folder_beside_the_data_is_no_gap(repo: Toy) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "__pycache__/x.pyc", ".gitignore"):
        Path("data/mine", name).parent.mkdir(exist_ok=True)
        Path("data/mine", name).write_text("x")
    Path("data/mine/a.dvc").write_text("outs: [{md5: a.dir, path: a}]\n")
    repo.git("add", "-f", "data/mine/a.dvc", "data/mine/b/2.jpg")
    assert gaps() == []
    Path("data/mine/b/3.jpg").write_text("x")
    assert gaps() == ["data/mine is neither in git nor in DVC: `dvc add data/mine`"]


def test_a_source_elsewhere_is_a_gap(repo: Toy, tmp_path: Path) -> None:
    deps = f"../other, {tmp_path}/third, 's3://bucket/data'"
    Path("dvc.yaml").write_text(f"stages: {{one: {{cmd: x, deps: [{deps}]}}}}\n")
    end = "lies outside the work tree, where neither git nor DVC keeps it"
    assert gaps() == [f"../other {end}", f"{tmp_path}/third {end}", f"s3://bucket/data {end}"]


def test_without_a_commit_nothing_else_counts(repo: Toy) -> None:
    repo.git("update-ref", "-d", "HEAD")
    assert gaps() == ["there is no git commit: `git init`, `git add .`, `git commit`"]


def test_what_the_patch_lacks_is_a_gap(repo: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("deploy.key").write_text("x")
    assert gaps() == ["not in the patch: deploy.key"]
    assert gaps(patched=False) == ["CLIPTUNE_PATCH=off: no patch was stored"]
    monkeypatch.setattr(lineage, "PATCH_LIMIT", 10)
    Path("deploy.key").unlink()
    Path("code.py").write_text("2" * 20)
    assert gaps() == ["the patch is above 1e-05 MB and was not stored"]


@pytest.mark.parametrize(
    ("config", "local", "known"),
    [
        ("[core]\n    remote = store\n['remote \"store\"']\n    url = s3://b\n", "", True),
        ("[core]\n    analytics = false\n", "[core]\n    remote = mine\n", True),
        ("['remote \"store\"']\n    url = s3://b\n", "", False),
        ("[core\n", "[core]\n    remote = mine\n", True),
        ("", "", False),
    ],
)
def test_a_default_remote_is_read_from_dvcs_settings(
    tmp_path: Path, config: str, local: str, known: bool
) -> None:
    (tmp_path / "config").write_text(config)
    (tmp_path / "config.local").write_text(local)
    assert lineage_gaps.has_remote([tmp_path]) is known
    assert lineage_gaps.has_remote([tmp_path / "nowhere", tmp_path]) is known


def test_tags_give_the_verdict_and_all_reasons() -> None:
    assert lineage_gaps.tags([], remote=True) == {"reproducible": "yes"}
    here = lineage_gaps.tags([], remote=False)
    assert here == {"reproducible": "only here", "reproducible.why": NO_REMOTE}
    no = lineage_gaps.tags(["a", "b", "a"], remote=False)
    assert no == {"reproducible": "no", "reproducible.why": f"a; b; {NO_REMOTE}"}
    assert lineage_gaps.of_tags(no) == ("a", "b")
    assert lineage_gaps.of_tags(here) == lineage_gaps.of_tags({}) == ()


def a_pipeline() -> None:
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, Numbers(seed=0)) as run:
            run.metrics({"rows": 1})
    recording.record_pipeline()


def verdicts(toy: Toy) -> set[tuple[str, str]]:
    tags = [run.data.tags for run in toy.runs()]
    return {(one["reproducible"], one.get("reproducible.why", "")) for one in tags}


def test_the_runs_of_a_clean_tree_are_reproducible(
    here: Toy, capfd: pytest.CaptureFixture[str]
) -> None:
    here.git("checkout", "-q", ".")
    Path(".dvc/config.local").write_text("[core]\n    remote = store\n")
    a_pipeline()
    Path(".dvc/config.local").unlink()
    assert verdicts(here) == {("yes", "")}
    assert capfd.readouterr().err == ""


def test_without_a_remote_they_are_so_here(here: Toy, capfd: pytest.CaptureFixture[str]) -> None:
    a_pipeline()
    assert verdicts(here) == {("only here", NO_REMOTE)}
    assert capfd.readouterr().err == ""


def test_a_gap_is_told_once_by_the_record(
    here: Toy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIPTUNE_PATCH", "off")
    Path("note.txt").write_text("a")
    Path("data/raw/more.txt").write_text("b")
    a_pipeline()
    Path("note.txt").unlink()
    Path("data/raw/more.txt").unlink()
    patch = "CLIPTUNE_PATCH=off: no patch was stored"
    data = "data/raw is neither in git nor in DVC: `dvc add data/raw`"
    assert verdicts(here) == {("no", f"{patch}; {data}; {NO_REMOTE}")}
    assert capfd.readouterr().err == (
        f"this run can't be made again from its record: {patch}; {data}. Commit what is missing, "
        "or `dvc add` it, or list in .gitignore what is no part of it, before the next run\n"
    )
    assert {run.data.tags.get("source.left_out") for run in here.runs()} == {patch}


def test_an_edit_while_stages_run_is_a_gap_of_the_pipelines_run(here: Toy) -> None:
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, Numbers(seed=0)):
            Path("note.txt").write_text(stage)
    recording.record_pipeline()
    Path("note.txt").unlink()
    pipeline, *stages = [run.data.tags for run in here.runs()]
    assert pipeline["reproducible"] == "no"
    edited = "the work tree was edited while the stages ran"
    assert pipeline["reproducible.why"] == f"{edited}; {NO_REMOTE}"
    assert {tags["reproducible"] for tags in stages} == {"only here"}


def test_a_gap_of_the_beginning_stays_one(here: Toy) -> None:
    Path("data/raw/more.txt").write_text("b")
    with tracking.stage_run("prepare", Numbers(seed=0)):
        Path("data/raw/more.txt").unlink()
    with tracking.stage_run("train", Numbers(seed=0)):
        pass
    recording.record_pipeline()
    assert here.runs()[0].data.tags["reproducible"] == "no"
    assert here.runs()[2].data.tags["reproducible"] == "only here"
