"""A retraining's way through git, DVC and its summary, with a pipeline of one copy and no model."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from pipeline import cli
from pipeline.errors import DataError, TrackingError
from pipeline.history.promotion import Promotion
from pipeline.params import RetrainCommand, load
from pipeline.retraining import folders, judging, retrain, tree
from pipeline.retraining.commands import Said, git
from pipeline.retraining.tree import IDENTITY, Publish
from pipeline.retraining.week import Week
from tests.checkouts import edit
from tests.retraining.test_news import dvc, pairs

ROOT = Path(__file__).parents[2]
DVC_YAML = """\
stages:
  clean:
    cmd: mkdir -p data/clean && cp data/mine/pairs.parquet data/clean/pairs.parquet
    deps: [data/mine]
    outs: [data/clean]
  train:
    cmd: cp data/clean/pairs.parquet model
    deps: [data/clean]
    outs: [model]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of an origin, with a remote of DVC, whose last training had forty pictures."""
    for name in ("CI", "GITHUB_REF_NAME", "CI_COMMIT_BRANCH", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retrain, "_store", lambda *_: "")
    monkeypatch.setattr(retrain, "reach", away)
    monkeypatch.setattr(retrain, "judge", judge)
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", str(origin))
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))
    git(clone, "switch", "--quiet", "--create", "main")
    dvc(clone, "init")
    dvc(clone, "remote", "add", "--default", "far", str(tmp_path / "far"))
    (clone / "dvc.yaml").write_text(DVC_YAML)
    (clone / ".gitignore").write_text("/data/mine\n/data/clean\n/model\n/.cliptune\n")
    deliver(clone, range(40))
    dvc(clone, "add", "data/mine")
    dvc(clone, "repro")
    git(clone, "add", "--all")
    git(clone, *IDENTITY, "commit", "--quiet", "--message", "first")
    dvc(clone, "push")
    git(clone, "push", "--quiet", "origin", "main")
    return clone


def away(*_: Any) -> None:
    raise TrackingError("no server in this test")


def judge(root: Path, params: RetrainCommand, week: Week, *, remote: bool) -> None:
    week.promotion = Promotion("hold", "cliptune", "r", "2", "1", dry=False, why="no gain")
    week.verdict, week.why = "hold", "no gain"


def deliver(folder: Path, pictures: range) -> None:
    (folder / "data/mine").mkdir(parents=True, exist_ok=True)
    file = folder / "data/mine/pairs.parquet"
    file.unlink(missing_ok=True)  # it may be a link into the cache
    pairs(pictures).to_parquet(file)


def week(here: Path, publish: Publish = "commit", *, least_new: int = 0) -> Week:
    params = load(RetrainCommand, ROOT / "params.yaml")
    params = params.model_copy(
        update={"retrain": params.retrain.model_copy(update={"least_new": least_new})}
    )
    return retrain.retrain(here, params, publish=publish, dry=False)[0]


def during(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Let something happen while a model is judged."""

    def slowly(*arguments: Any, remote: bool) -> None:
        do()
        judge(*arguments, remote=remote)

    monkeypatch.setattr(retrain, "judge", slowly)


def log(tree: Path, branch: str = "HEAD") -> list[str]:
    return git(tree, "log", "--format=%s", branch).splitlines()


def test_what_is_new_adds_up_on_a_machine_that_stays(here: Path) -> None:
    counts = []
    for number in (45, 50, 55):
        deliver(here, range(number))
        found = week(here, least_new=12)
        counts.append((found.verdict, found.news and found.news.new))
    assert counts == [("too little new", 5), ("too little new", 10), ("hold", 15)]
    assert log(here.parent / "origin.git", "main")[:2] == ["Retrained: hold", log(here)[1]]
    assert git(here, "status", "--porcelain") == ""


@pytest.mark.parametrize("publish", ["none", "pull-request", "commit"])
def test_the_work_of_others_in_the_tree_is_theirs(
    here: Path, monkeypatch: pytest.MonkeyPatch, publish: Publish
) -> None:
    def works() -> None:
        (here / "code.py").write_text("")
        git(here, "add", "code.py")
        git(here, *IDENTITY, "commit", "--quiet", "--message", "theirs", "--", "code.py")
        (here / "staged.py").write_text("")
        (here / "data/other.dvc").write_text("outs:\n- path: other\n")
        git(here, "add", "staged.py")

    during(monkeypatch, works)
    deliver(here, range(45))
    assert week(here, publish).verdict == "hold"
    assert "theirs" in log(here)
    listed = git(here, "ls-tree", "-r", "--name-only", "HEAD").splitlines()
    assert "staged.py" not in listed
    assert "data/other.dvc" not in listed
    assert git(here, "diff", "--cached", "--name-only") == "staged.py"


def test_a_commit_that_a_killed_retraining_left_is_taken_back_and_made_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of a training record it: it must not get another name."""
    recorded = []

    def dies() -> None:
        recorded.append(git(here, "rev-parse", "HEAD"))
        raise MemoryError

    before = git(here, "rev-parse", "HEAD")
    deliver(here, range(45))
    with monkeypatch.context() as dying:
        dying.setattr("pipeline.retraining.commits.Commits.take_back", lambda _: None)
        during(dying, dies)
        with pytest.raises(MemoryError):
            week(here)
    assert git(here, "rev-parse", "HEAD") == recorded[0] != before
    assert week(here, "none").verdict == "hold"
    assert git(here, "rev-parse", "HEAD") == before
    assert week(here).published == "pushed to main"
    assert recorded[0] in git(here.parent / "origin.git", "log", "--format=%H", "main").splitlines()


def test_nobody_is_told_to_add_or_to_push(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As DVC says it of today; its lines are known word for word."""
    deliver(here, range(45))
    week(here)
    shown = capsys.readouterr().out
    assert "Running stage 'train'" in shown
    assert not [word for word in ("git add", "To track", "autostage", "dvc push") if word in shown]


STOPS = """\
stages:
  validate:
    cmd: |
      printf 'error: two checks:\\n       one\\n         row 1\\n       two\\n'; exit 1
    deps: [data/mine]
"""


def test_a_stage_that_stops_is_told_line_by_line(here: Path) -> None:
    (here / "dvc.yaml").write_text(STOPS)
    git(here, *IDENTITY, "commit", "--quiet", "--all", "--message", "two checks")
    found = week(here, "none")
    assert (found.verdict, found.validated) == ("failed", False)
    assert found.why == "the pipeline failed in the stage validate: two checks: one row 1 two"
    assert found.changed == "data data/mine"
    page = (here / ".cliptune/retrain/summary.md").read_text()
    assert "in the stage validate:\n\n- two checks:\n- one\n  - row 1\n- two\n" in page


def test_what_validate_found_is_of_now_only_where_dvc_came_to_it(here: Path) -> None:
    (here / "dvc.yaml").write_text(DVC_YAML.replace("  clean:", "  validate:"))
    git(here, *IDENTITY, "commit", "--quiet", "--all", "--message", "validate")
    for name, validated in (("ran", True), ("current", True)):
        assert (name, week(here, "none").validated) == (name, validated)
    (here / "dvc.yaml").write_text("stages: {check: {cmd: exit 1}}\n")
    git(here, *IDENTITY, "commit", "--quiet", "--all", "--message", "no check passes")
    found = week(here, "none")
    assert (found.verdict, found.validated) == ("failed", False)


def test_runs_that_nobody_judged_are_in_the_spool(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain, "_store", lambda *_: "MLflow does not answer")
    assert (week(here, "none").verdict, week(here, "none").place) == ("not judged", "")  # no run
    monkeypatch.setattr(retrain, "waits", lambda _: 3)
    week(here, "none")
    page = (here / ".cliptune/retrain/summary.md").read_text()
    assert "| run | kept in the spool (`.cliptune/spool`): the next retraining on this mach" in page
    assert "`cliptune sync` once the server answers |" in page


def test_the_figures_of_who_serves_come_from_the_registry(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"target": {"metric": "top1", "challenger": 0.672}}
    tags = {"promotion.at": "2026-11-30T04:00:00+0000", "promotion.figures": json.dumps(figures)}
    champion = SimpleNamespace(version=3, tags=tags)
    monkeypatch.setattr(retrain, "reach", lambda *_: (None, None))
    monkeypatch.setattr(retrain, "answering", lambda _: nullcontext())
    monkeypatch.setattr(retrain.Registry, "by_alias", lambda *_: champion)
    monkeypatch.setattr(retrain.Registry, "__init__", lambda *_: None)
    found = week(here, "none")
    assert found.figures == "Zero-shot accuracy 67.2 % on test pictures; measured on 2026-11-30"


def test_what_made_the_pipeline_run_is_told_and_not_asked_of_dvc_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.retraining.changes.status", None)
    assert week(here, "none").changed == ""
    deliver(here, range(45))
    assert week(here, "none").changed == "data data/mine"
    page = (here / ".cliptune/retrain/summary.md").read_text()
    assert "| changed | data data/mine |" in page


def commit(here: Path, name: str) -> None:
    file = here / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    git(here, "add", name)
    git(here, *IDENTITY, "commit", "--quiet", "--message", name)
    git(here, "push", "--quiet", "origin", "main")


@pytest.mark.parametrize("publish", ["none", "commit"])
def test_a_remote_that_refuses_is_told_before_the_work(here: Path, publish: Publish) -> None:
    place = here.parent / "far/cliptune.txt"
    place.mkdir()  # no file can be written there
    assert week(here, publish).verdict == "hold"  # nothing new, nothing tried
    commit(here, "README.md")
    assert week(here, publish).verdict == "hold"
    commit(here, "pipeline/code.py")
    found = week(here, publish)
    assert (found.verdict, "pipeline" in found.seconds) == ("failed", False)
    assert f"writing to DVC's remote far ({here.parent / 'far'}) failed: " in found.why
    assert "; nothing was computed. Look at that address" in found.why
    place.rmdir()
    assert week(here, publish).verdict == "hold"
    assert place.is_file()
    place.unlink()
    place.mkdir()
    deliver(here, range(45))
    assert week(here, publish).verdict == "failed"
    place.rmdir()
    assert week(here, publish).verdict == "hold"


def test_a_dry_run_writes_nothing_to_the_remote(here: Path) -> None:
    deliver(here, range(45))
    params = load(RetrainCommand, ROOT / "params.yaml")
    assert retrain.retrain(here, params, publish="none", dry=True)[0].verdict == "hold"
    assert not (here.parent / "far/cliptune.txt").exists()


def test_a_commit_of_it_calls_nobody(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class, or the reason of a rollback, may be called anything."""

    def judged(root: Path, params: RetrainCommand, week: Week, *, remote: bool) -> None:
        judge(root, params, week, remote=remote)
        week.why = "label = fixes #12 for @team"

    monkeypatch.setattr(retrain, "judge", judged)
    deliver(here, range(45))
    assert week(here).published == "pushed to main"
    said = git(here, "log", "--max-count=1", "--format=%b")
    assert said.strip() == "label = fixes #\u200b12 for @\u200bteam"


def test_a_proposal_is_made_once(here: Path) -> None:
    deliver(here, range(45))
    assert "open a pull request" in week(here, "pull-request").published
    assert week(here, "pull-request").published == ""
    origin = here.parent / "origin.git"
    assert len(git(origin, "branch", "--format=%(refname:short)").splitlines()) == 2


def test_a_new_machine_counts_from_what_is_proposed(here: Path) -> None:
    """And not from what was merged, which is older by any number of weeks."""
    deliver(here, range(50))
    week(here, "pull-request", least_new=8)
    origin, runner = here.parent / "origin.git", here.parent / "runner"
    git(here.parent, "clone", "--quiet", str(origin), str(runner))
    dvc(runner, "pull")
    assert week(runner, "pull-request", least_new=8).published == ""
    deliver(runner, range(55))
    found = week(runner, "pull-request", least_new=8)
    assert (found.verdict, found.news and found.news.new) == ("too little new", 5)
    deliver(runner, range(60))
    found = week(runner, "pull-request", least_new=8)
    assert (found.verdict, found.news and found.news.new) == ("hold", 10)
    assert found.notes == ["This goes on from retrain/main, which nobody has merged yet."]
    told = log(origin, "retrain/main")
    assert [title.split()[0] for title in told] == [
        "Retrained:",
        "Data",
        "Retrained:",
        "Data",
        "first",
    ]
    assert log(runner) == log(here) == ["first"]


def test_a_merge_that_cannot_be_pushed_is_undone(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, other = here.parent / "origin.git", here.parent / "other"

    def push() -> None:
        git(here.parent, "clone", "--quiet", str(origin), str(other))
        (other / "theirs.py").write_text("")
        git(other, "add", "--all")
        git(other, *IDENTITY, "commit", "--quiet", "--message", "theirs")
        git(other, "push", "--quiet", "origin", "main")
        hook = origin / "hooks/pre-receive"
        hook.write_text("#!/bin/sh\necho 'error: GH006: protected' >&2\nexit 1\n")
        hook.chmod(0o755)

    during(monkeypatch, push)
    deliver(here, range(45))
    found = week(here)
    assert (found.verdict, found.published) == ("failed", "")
    assert "git push failed: remote: error: GH006: protected" in found.why
    assert log(here) == ["first"]
    tree.require_clean(here)
    (origin / "hooks/pre-receive").unlink()
    during(monkeypatch, lambda: None)
    assert week(here).published == "pushed to main"
    assert (here / "theirs.py").is_file()


def test_no_old_summary_is_taken_for_that_of_now(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    week(here, "none")
    (here / "stray.py").write_text("")
    found = week(here, "none")
    assert (found.verdict, "not committed: stray.py" in found.why) == ("failed", True)
    summary = here / ".cliptune/retrain/summary.json"
    assert json.loads(summary.read_text())["verdict"] == "failed"
    (here / "stray.py").unlink()

    def breaks() -> None:
        raise KeyError("https://me:hunter2@host/x")

    during(monkeypatch, breaks)
    with pytest.raises(KeyError):
        week(here, "none")
    assert json.loads(summary.read_text())["why"] == "KeyError: 'https://host/x'"
    monkeypatch.setattr(retrain, "_told", away)
    with pytest.raises(TrackingError):
        week(here, "none")
    assert not summary.exists()  # as after a kill


def test_a_wrong_param_leaves_no_old_summary(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    week(here, "none")
    monkeypatch.chdir(here)
    shutil.copy(ROOT / "params.yaml", here)
    edit(here / "params.yaml", {"promote.model": "it's"})
    with pytest.raises(SystemExit):
        cli.main(["retrain"])
    found = json.loads((here / ".cliptune/retrain/summary.json").read_text())
    assert found["verdict"] == "failed"
    assert "promote.model" in found["why"]
    assert found["why"] in capsys.readouterr().err.replace("\n", " ")


STOPPED = """
import sys, time
from pathlib import Path
from pipeline.retraining import retrain
from tests.retraining import test_retrain as toy

def judge(*_, remote):
    print("judging", flush=True)
    time.sleep(60)

retrain._store, retrain.reach, retrain.judge = (lambda *_: ""), toy.away, judge
toy.week(Path(sys.argv[1]))
"""


def test_sigterm_between_two_commands_leaves_a_summary_and_no_commit(here: Path) -> None:
    deliver(here, range(45))
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, here], cwd=here, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    assert any(line == "judging\n" for line in process.stdout)
    assert log(here)[0].startswith("Data of ")
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.endswith(
        "it was stopped: run it again, and it goes on; the summary: "
        f"{here / '.cliptune/retrain/summary.md'}\n"
    )
    assert log(here) == ["first"]
    summary = json.loads((here / ".cliptune/retrain/summary.json").read_text())
    assert (summary["verdict"], summary["well"]) == ("stopped", False)


def test_ctrl_c_says_how_it_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    during(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        week(here, "none")
    assert "run it again, and it goes on; the summary: " in capsys.readouterr().err


def test_a_place_to_publish_to_is_asked_for_before_the_work(here: Path) -> None:
    git(here, "remote", "remove", "origin")
    found = week(here)
    assert (found.verdict, list(found.seconds)) == ("failed", [])
    assert "git has no remote called origin" in found.why


def elsewhere(here: Path, pictures: range) -> None:
    """Somebody adds pictures in another clone, and pushes that."""
    other = here.parent / "other"
    git(here.parent, "clone", "--quiet", str(here.parent / "origin.git"), str(other))
    dvc(other, "pull", "data/mine.dvc")
    deliver(other, pictures)
    dvc(other, "add", "data/mine")
    dvc(other, "push")
    git(other, *IDENTITY, "commit", "--quiet", "--all", "--message", "theirs")
    git(other, "push", "--quiet", "origin", "main")


def held(here: Path) -> int:
    return len(pd.read_parquet(here / "data/mine/pairs.parquet"))


def test_a_folder_that_is_behind_is_brought_up_and_not_added(here: Path) -> None:
    folders.added(here)
    elsewhere(here, range(60))
    git(here, "pull", "--quiet")
    folders.added(here)
    assert held(here) == 60
    assert git(here, "status", "--porcelain") == ""
    folders.added(here)
    deliver(here, range(70))
    folders.added(here)
    assert git(here, "status", "--porcelain") == " M data/mine.dvc"
    assert held(here) == 70


@pytest.mark.parametrize("on_purpose", [False, True])
def test_an_old_folder_on_a_new_machine_is_brought_up(here: Path, on_purpose: bool) -> None:
    elsewhere(here, range(60))
    git(here, "pull", "--quiet")
    if on_purpose:
        dvc(here, "add", "data/mine")
    assert week(here).verdict == "hold"
    assert held(here) == (40 if on_purpose else 60)


def test_a_folder_that_was_changed_here_and_elsewhere_is_left_as_it_is(here: Path) -> None:
    folders.added(here)
    elsewhere(here, range(60))
    git(here, "pull", "--quiet")
    deliver(here, range(45))
    with pytest.raises(DataError, match=r"data/mine was changed here, and data/mine\.dvc elsewh"):
        folders.added(here)
    assert held(here) == 45
    assert git(here, "status", "--porcelain") == ""


def test_the_way_out_of_that_leads_out(here: Path) -> None:
    """As the message says: away with it, theirs, and what is new here beside it."""
    folders.added(here)
    elsewhere(here, range(60))
    git(here, "pull", "--quiet")
    (here / "data/mine/mine too.txt").write_text("new here")
    with pytest.raises(DataError, match="Move data/mine away"):
        folders.added(here)
    (here / "data/mine").rename(here.parent / "away")
    dvc(here, "pull", "data/mine.dvc")
    (here / "data/mine/mine too.txt").write_text("new here")
    folders.added(here)
    assert held(here) == 60
    assert git(here, "status", "--porcelain") == " M data/mine.dvc"
    assert "nfiles: 2" in (here / "data/mine.dvc").read_text()


def test_an_import_is_asked_and_named_where_its_source_is_away(here: Path) -> None:
    source = here.parent / "inbox"
    source.mkdir()
    (source / "one.txt").write_text("1")
    dvc(here, "import-url", str(source), "data/inbox")
    assert tree.changed(here, ["data/inbox.dvc"]) == []
    (source / "two.txt").write_text("2")
    assert tree.changed(here, ["data/inbox.dvc"]) == ["data/inbox.dvc"]
    shutil.rmtree(source)
    with pytest.raises(
        DataError, match=r"data/inbox\.dvc comes from .*inbox.*which says: .*Look at"
    ):
        tree.changed(here, ["data/inbox.dvc"])


def test_what_was_added_here_and_merged_meanwhile_is_no_change_of_others(here: Path) -> None:
    folders.added(here)
    deliver(here, range(45))
    folders.added(here)
    git(here, *IDENTITY, "commit", "--quiet", "--all", "--message", "merged")
    deliver(here, range(50))
    folders.added(here)
    assert held(here) == 50


def test_the_commands_find_the_python_of_now(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (here / "dvc.yaml").write_text(
        "stages: {which: {cmd: python -c 'import sys; print(sys.prefix)'}}\n"
    )
    code = (
        "from pathlib import Path; from pipeline.retraining.commands import dvc\n"
        "dvc(Path('.'), 'repro', 'which')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True
    )
    assert sys.prefix in done.stdout.splitlines()


@pytest.mark.parametrize("served", [True, False])
def test_without_a_champion_its_base_model_is_fetched_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(judging, "dvc", lambda _, *words: asked.extend(words) or Said(0, ()))
    params = load(RetrainCommand, ROOT / "params.yaml")
    judging._fetch(tmp_path, params, served)
    assert ("samples/base_model/out" in asked) != served
    assert "models/final" in asked
