"""A real tracking server: alive, away, and gone in the middle of a stage."""

import json
import signal
import time
from pathlib import Path

import pytest
from toy_server import Server, free_port
from toy_tree import Numbers, Toy, by_role

from pipeline import recording, tracking
from pipeline.artifacts import read_json
from pipeline.errors import TrackingError
from pipeline.tracking_sink import send

pytest_plugins = ["toy_fixtures"]


def all_text(folder: Path) -> str:
    return "".join(p.read_text(errors="replace") for p in sorted(folder.rglob("*")) if p.is_file())


def test_a_server_gets_it_all_and_no_secret(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.git("config", "remote.origin.url", "https://me:hunter2@git.example/repo.git")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.secret_uri)
    (here.path / "note.txt").write_text("a")
    message = f"can't read {server.secret_uri}/data?token=hunter2"
    with pytest.raises(OSError, match="data"), tracking.stage_run("train", Numbers(seed=0)):
        raise OSError(message)
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, Numbers(seed=0)) as run:
            run.metrics({"rows": 4})
            run.artifact(here.path / "note.txt")
    recording.record_pipeline()
    (pipeline,) = by_role(here.runs(server.uri), "pipeline")
    failed, prepare, train = by_role(here.runs(server.uri), "stage")
    assert [r.info.status for r in (pipeline, failed, prepare, train)] == [
        "FINISHED",
        "FAILED",
        "FINISHED",
        "FINISHED",
    ]
    assert failed.data.tags["error"] == f"OSError: can't read {server.uri}/data?token=…"
    assert pipeline.data.tags["mlflow.source.git.repoURL"] == "https://git.example/repo.git"
    assert pipeline.data.metrics["train/rows"] == 4
    assert here.receipt("train")["tracking_uri"] == server.uri
    patch = here.download(pipeline.info.run_id, "source/uncommitted.patch", server.uri)
    assert "note.txt" in patch.read_text()
    assert here.download(run.run_id, "note.txt", server.uri).read_text() == "a"
    said = "".join(str(run.to_dictionary()) for run in here.runs(server.uri))
    assert "hunter2" not in said + all_text(here.path / "runs") + all_text(patch.parent)


def test_a_server_that_is_away_is_spooled(
    here: Toy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    away = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@{away}")
    began = time.monotonic()
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, Numbers(seed=0)) as run:
            run.metrics({"rows": 4})
    recording.record_pipeline()
    assert time.monotonic() - began < 30
    spool = here.path / ".cliptune/spool"
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0].startswith(f"MLflow at http://{away} does not answer (")
    assert said[0].endswith(f"kept in {spool}")
    receipt = here.receipt("train")
    assert receipt["spooled"] is True
    assert receipt["tracking_uri"] == f"sqlite:///{spool}/mlflow.db"
    kept = here.runs(receipt["tracking_uri"])
    assert {run.info.status for run in kept} == {"FINISHED"}
    (pipeline,) = by_role(kept, "pipeline")
    assert pipeline.data.metrics["prepare/rows"] == 4
    assert here.receipt("pipeline")["run_id"] == pipeline.info.run_id


def test_a_server_that_is_away_stops_a_stage_that_asks_for_it(
    here: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{free_port()}")
    monkeypatch.setenv("CLIPTUNE_ON_UNREACHABLE", "fail")
    worked = False
    with pytest.raises(TrackingError) as caught, tracking.stage_run("train", Numbers(seed=0)):
        worked = True
    assert "Nothing was computed" in str(caught.value)
    assert "CLIPTUNE_ON_UNREACHABLE=spool" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not worked
    assert not Path("runs/train.json").exists()


def test_an_unknown_policy_is_refused(here: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPTUNE_ON_UNREACHABLE", "ignore")
    with (
        pytest.raises(TrackingError, match=r"'ignore': set it to spool or fail"),
        tracking.stage_run("train", Numbers(seed=0)),
    ):
        pass


def mid_run(here: Toy, server: Server, number: int, folder: Path) -> tuple[str, float, float]:
    """Run a stage in which the server gets a signal; run id, seconds of logging and of the end."""
    (folder / "page.html").write_text("page")
    with tracking.stage_run("train", Numbers(seed=5)) as run:
        run.log({"loss": 1.0}, step=0)
        run.artifact(folder / "page.html")
        server.signal(number)
        began = time.monotonic()
        for step in range(1, 100):
            run.log({"loss": 1 / (step + 1)}, step=step)
        run.metrics({"rows": 4})
        logging = time.monotonic() - began
        run.artifact(folder / "page.html", "late")
        (folder / "page.html").unlink()
    return run.run_id, logging, time.monotonic() - began


@pytest.mark.slow
def test_a_server_that_hangs_costs_one_timeout(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    try:
        run, logging, whole = mid_run(here, server, signal.SIGSTOP, tmp_path)
        assert logging < 1
        assert whole < 30
        assert here.receipt("train")["journal"] == f"{run}.jsonl"
    finally:
        server.signal(signal.SIGCONT)


def test_a_server_that_dies_costs_no_result_and_the_journal_can_be_sent(
    here: Toy,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.secret_uri)
    with tracking.stage_run("prepare", Numbers(seed=0)) as early:
        early.metrics({"rows": 3})
    run, logging, whole = mid_run(here, server, signal.SIGKILL, tmp_path)
    server.process.wait()
    assert logging < 1
    assert whole < 30
    said = [line for line in capfd.readouterr().err.splitlines() if "in the spool:" not in line]
    assert len(said) == 2
    assert f"MLflow at {server.uri} stopped answering" in said[0]
    assert read_json(Path("metrics/train.json")) == {"rows": 4}
    receipt = here.receipt("train")
    assert (receipt["journal"], receipt["metrics"]["train/rows"]) == (f"{run}.jsonl", 4)

    recording.record_pipeline()
    pipeline = here.receipt("pipeline")
    assert pipeline["spooled"] is True
    kept = here.client(pipeline["tracking_uri"]).get_run(pipeline["run_id"])
    assert kept.data.metrics["train/rows"] == 4
    assert kept.data.tags["dvc.stage.prepare.run_id"] == early.run_id

    spool = here.path / ".cliptune/spool"
    lines = [json.loads(line) for line in (spool / f"{run}.jsonl").read_text().splitlines()]
    assert lines[0] == {"op": "journal", "run": run, "tracking_uri": server.uri}
    assert "hunter2" not in json.dumps(lines)
    # What a later command that sends the spool does, here into another store.
    client = here.client(pipeline["tracking_uri"])
    target = client.create_run(client.create_experiment("sent")).info.run_id
    for line in lines[1:]:
        place = {"path": str(spool / line["path"])} if line["op"] == "artifact" else {}
        send(client, line | place | {"run": target})
    steps = client.get_metric_history(target, "train/loss")
    assert [point.step for point in steps][-1] == 99
    sent = client.get_run(target)
    assert (sent.info.status, sent.data.metrics["train/rows"]) == ("FINISHED", 4)
    page = here.download(target, "late/page.html", pipeline["tracking_uri"])
    assert page.read_text() == "page"
