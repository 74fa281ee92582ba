"""What was kept while the server was away reaches it later: once, with its links."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from toy_server import Server, begin, free_port
from toy_tree import Numbers, Run, Toy, by_role

from pipeline import recording, tracking
from pipeline.errors import TrackingError
from pipeline.history import spooled
from pipeline.history import sync as syncing
from pipeline.tracking_store import waits

pytest_plugins = ["toy_fixtures"]

SPOOL = Path(".cliptune/spool")


def a_stage(stage: str, rows: int = 4) -> str:
    Path("note.txt").write_text("a")
    with tracking.stage_run(stage, Numbers(seed=0)) as run:
        run.log({"loss": 0.5}, step=0)
        run.log({"loss": 0.25}, step=1)
        run.metrics({"rows": rows})
        run.artifact(Path("note.txt"), "files")
    return run.run_id


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")


def over(monkeypatch: pytest.MonkeyPatch, *, yet: bool = True) -> None:
    """The execution of these runs, which is this very process, has ended; or it still runs."""
    for module in (syncing, spooled):
        monkeypatch.setattr(module, "still_runs", lambda _: not yet)


def pictured(run: Run, toy: Toy, uri: str) -> dict[str, Any]:
    """What of a run must not change by the way it took."""
    history = toy.client(uri).get_metric_history(run.info.run_id, "train/loss")
    ids = re.compile("[0-9a-f]{32}")
    seconds = {"train/seconds", "prepare/seconds"}
    tags = {k: v for k, v in run.data.tags.items() if not ids.search(v) and k != "pipeline.key"}
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": {k: v for k, v in run.data.metrics.items() if k not in seconds},
        "loss": [(point.step, point.value) for point in history],
        "tags": {k: v for k, v in tags.items() if k != "pipeline.session"},
        "linked": sorted(k for k, v in run.data.tags.items() if ids.search(v)),
    }


def all_ids(runs: list[Run]) -> set[str]:
    """Every run id that the tags of `runs` name."""
    named = (run.data.tags for run in runs)
    texts = (v for tags in named for k, v in tags.items() if k not in HASHES | {"spool.run_id"})
    return {found for text in texts for found in re.findall(r"\b[0-9a-f]{32}\b", text)}


HASHES = {"env.sha256", "source.patch_sha256", "dvc.lock.sha256", "mlflow.source.git.commit"}


def test_a_spooled_pipeline_is_the_same_as_one_that_was_sent(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(monkeypatch)
    old = [a_stage("prepare", rows=3), a_stage("train")]
    recording.record_pipeline()
    old.append(here.receipt("pipeline")["run_id"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    over(monkeypatch)
    sent = syncing.sync(here.path)
    assert (len(sent.runs), sent.journals, sent.waiting, sent.refused) == (3, 0, set(), {})
    assert syncing.told(sent, ids=False) == (
        f"sent to {server.uri}: 3 runs (pipeline, prepare, train)"
    )
    assert f"\n  {old[0][:8]} is now " in syncing.told(sent)
    runs = here.runs(server.uri)
    assert {run.data.tags["spool.run_id"] for run in runs} == set(old)
    assert all_ids(runs) == {run.info.run_id for run in runs}
    assert waits(here.path) == 0
    assert not [p for p in SPOOL.rglob("*") if p.is_file() and "mlflow.db" not in p.name]
    (pipeline,) = by_role(runs, "pipeline")
    stages = {run.data.tags["dvc.stage"]: run for run in by_role(runs, "stage")}
    train = stages["train"]
    assert train.data.tags["mlflow.parentRunId"] == pipeline.info.run_id
    assert train.data.tags["dvc.upstream.prepare.run_id"] == stages["prepare"].info.run_id
    assert pipeline.data.tags["dvc.stage.train.run_id"] == train.info.run_id
    experiment = pipeline.info.experiment_id
    link = f"[{train.info.run_id[:8]}](#/experiments/{experiment}/runs/{train.info.run_id})"
    assert f"| train | executed | {link} |" in pipeline.data.tags["mlflow.note.content"]
    note = here.download(train.info.run_id, "files/note.txt", server.uri)
    assert note.read_text() == "a"

    # The same stages again, sent at once, in an experiment of their own.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "sent-at-once")
    a_stage("prepare", rows=3)
    a_stage("train")
    recording.record_pipeline()
    direct = here.runs(server.uri)
    for one, other in zip(runs, direct, strict=True):
        found, expected = pictured(one, here, server.uri), pictured(other, here, server.uri)
        found["linked"].remove("spool.run_id")
        for each in (found, expected):
            del each["name"], each["tags"]["mlflow.runName"]  # with the time of day
        assert found == expected


def test_twice_is_once(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away(monkeypatch)
    a_stage("train")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    over(monkeypatch)
    # Cut short when all is sent and nothing forgotten: the next one begins from the start.
    with monkeypatch.context() as cut:
        cut.setattr(spooled, "_relink", lambda *_: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(TrackingError, match="stopped answering"):
            syncing.sync(here.path)
    first = [pictured(run, here, server.uri) for run in here.runs(server.uri)]
    assert len(syncing.sync(here.path).runs) == 2
    assert [pictured(run, here, server.uri) for run in here.runs(server.uri)] == first
    assert len(first) == 2
    assert syncing.told(syncing.sync(here.path)) == "the spool is empty: nothing to send"
    assert len(here.runs(server.uri)) == 2


def test_an_execution_that_runs_is_left_alone(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(monkeypatch)
    run = a_stage("train")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    sent = syncing.sync(here.path)
    assert (len(sent.runs), len(sent.waiting)) == (0, 1)
    assert "not yet, it still runs" in syncing.told(sent)
    kept = here.client(f"sqlite:///{here.path / SPOOL / 'mlflow.db'}").get_run(run)
    assert kept.info.lifecycle_stage == "active"
    over(monkeypatch)
    assert len(syncing.sync(here.path).runs) == 2


def test_later_stages_and_the_record_follow_a_run_that_was_sent(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt, which DVC caches, still names the run by its id in the spool."""
    away(monkeypatch)
    old = a_stage("prepare")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    over(monkeypatch)
    syncing.sync(here.path)
    train = a_stage("train")
    recording.record_pipeline()
    assert here.receipt("prepare")["run_id"] == old
    runs = {run.info.run_id: run for run in here.runs(server.uri)}
    (prepare,) = [run for run in runs.values() if run.data.tags.get("dvc.stage") == "prepare"]
    assert runs[train].data.tags["dvc.upstream.prepare.run_id"] == prepare.info.run_id
    (pipeline,) = by_role(list(runs.values()), "pipeline")
    assert pipeline.data.tags["dvc.stage.prepare.run_id"] == prepare.info.run_id
    assert here.receipt("pipeline")["spooled"] is False


def test_a_server_that_comes_back_in_an_execution_has_one_run_of_it(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`prepare` is in the spool, `train` and the record are not; then all are in one place."""
    away(monkeypatch)
    old = a_stage("prepare")
    capsys.readouterr()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    train = a_stage("train")
    said = "2 runs and journals wait in the spool: `cliptune sync` sends them\n"
    assert capsys.readouterr().err == said
    recording.record_pipeline()
    over(monkeypatch)
    assert len(syncing.sync(here.path).runs) == 2
    runs = here.runs(server.uri)
    (pipeline,) = by_role(runs, "pipeline")
    stages = {run.data.tags["dvc.stage"]: run for run in by_role(runs, "stage")}
    assert len(runs) == 3
    assert stages["train"].info.run_id == train
    prepare = stages["prepare"].info.run_id
    parents = {run.data.tags["mlflow.parentRunId"] for run in stages.values()}
    assert parents == {pipeline.info.run_id}
    assert pipeline.info.status == "FINISHED"
    assert stages["train"].data.tags["dvc.upstream.prepare.run_id"] == prepare
    assert pipeline.data.tags["dvc.stage.prepare.run_id"] == prepare
    assert old not in pipeline.data.tags["mlflow.note.content"]
    assert f"runs/{prepare}) |" in pipeline.data.tags["mlflow.note.content"]


def test_a_journal_completes_its_run(
    here: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies in a stage; another on the same store answers later, and dies once more."""
    folder, port = tmp_path / "server", free_port()
    folder.mkdir()
    first = begin(folder, port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", first.uri)
    try:
        with tracking.stage_run("train", Numbers(seed=0)) as run:
            run.log({"loss": 1.0}, step=0)
            first.signal(signal.SIGKILL)
            first.process.wait()
            run.log({"loss": 0.5}, step=1)
            run.metrics({"rows": 4})
            Path("late.txt").write_text("late")
            run.artifact(Path("late.txt"))
            Path("late.txt").unlink()
    finally:
        first.end()
    over(monkeypatch)
    journal = SPOOL / f"{run.run_id}.jsonl"
    with pytest.raises(TrackingError, match="does not answer"):
        syncing.sync(here.path)
    with journal.open("a") as file:
        file.write('{"op": "tags", "ru')  # a power cut
    second = begin(folder, port)
    try:
        sent = syncing.sync(here.path)
        assert (len(sent.runs), sent.journals) == (0, 1)
        assert syncing.told(sent) == f"sent to {second.uri}: the rest of 1 run (train)"
        assert waits(here.path) == 0
        assert not [p for p in SPOOL.rglob("*") if p.is_file() and "mlflow.db" not in p.name]
        client = here.client(second.uri)
        found = client.get_run(run.run_id)
        assert (found.info.status, found.data.metrics["train/rows"]) == ("FINISHED", 4)
        loss = client.get_metric_history(run.run_id, "train/loss")
        assert [(point.step, point.value) for point in loss] == [(0, 1.0), (1, 0.5)]
        assert here.download(run.run_id, "late.txt", second.uri).read_text() == "late"
    finally:
        second.end()


def test_a_journal_is_sent_whatever_its_texts_and_a_broken_one_keeps_nobody_waiting(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run = a_stage("train")
    over(monkeypatch)
    SPOOL.mkdir(parents=True, exist_ok=True)
    empty, journal = SPOOL / "0.jsonl", SPOOL / f"{run}.jsonl"
    empty.write_text("")  # what a power cut leaves
    lines = [
        {"op": "journal", "run": run, "tracking_uri": server.uri},
        {"op": "tags", "run": run, "values": {"one": "a\u2028b\x85c"}},  # ends of a line to Python
        {"op": "tags", "run": run, "values": {"two": "yes"}},
    ]
    first, *rest = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    journal.write_text(first + '{"op": "tags", "ru\n' + "".join(rest))  # the disk was full
    sent = syncing.sync(here.path)
    tags = here.client(server.uri).get_run(run).data.tags
    assert (tags["one"], tags["two"]) == ("a\u2028b\x85c", "yes")
    assert (sent.journals, list(sent.refused)) == (1, [here.path / empty])
    assert "line 2 is cut short and left out" in capsys.readouterr().err
    empty.unlink()


def test_a_journal_of_a_run_that_an_earlier_sync_sent_follows_it(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes between the runs and the journals; or a stage was not quite at its end."""
    away(monkeypatch)
    old = a_stage("train")
    journal = SPOOL / f"{old}.jsonl"
    head = {"op": "journal", "run": old, "tracking_uri": f"sqlite:///{here.path / SPOOL}/mlflow.db"}
    late = {"op": "tags", "run": old, "values": {"late": f"of {old}"}}
    journal.write_text("".join(json.dumps(line) + "\n" for line in (head, late)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    over(monkeypatch)
    with monkeypatch.context() as cut:
        cut.setattr(syncing, "_send_journal", lambda *_: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(TrackingError, match="stopped answering"):
            syncing.sync(here.path)
    sent = syncing.sync(here.path)
    assert (sent.runs, sent.journals, sent.refused) == ({}, 1, {})
    (train,) = by_role(here.runs(server.uri), "stage")
    assert train.data.tags["late"] == f"of {train.info.run_id}"


def test_a_work_tree_that_was_moved_loses_no_artifact(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(monkeypatch)
    a_stage("train")
    moved = here.path.with_name("moved ü")
    here.path.rename(moved)
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        over(monkeypatch)
        assert len(syncing.sync(moved).runs) == 2
    finally:
        moved.rename(here.path)
    (train,) = by_role(here.runs(server.uri), "stage")
    assert here.download(train.info.run_id, "files/note.txt", server.uri).read_text() == "a"


def test_what_the_store_refuses_stays_and_is_told(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run = a_stage("train")
    over(monkeypatch)
    SPOOL.mkdir(parents=True, exist_ok=True)
    journal = SPOOL / f"{run}.jsonl"
    lines = [
        {"op": "journal", "run": run, "tracking_uri": server.uri},
        {"op": "params", "run": run, "values": {"seed": "another"}},  # params do not change
        {"op": "tags", "run": run, "values": {"late": "yes"}},
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sent = syncing.sync(here.path)
    assert sent.journals == 0
    assert "1 of 2 entries refused" in sent.refused[here.path / journal]
    assert here.client(server.uri).get_run(run).data.tags["late"] == "yes"
    kept = [json.loads(line) for line in journal.read_text().splitlines()]
    assert kept == lines[:2]
    journal.unlink()


def test_a_journal_of_another_server_stays(
    here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    SPOOL.mkdir(parents=True, exist_ok=True)
    head = {"op": "journal", "run": "0" * 32, "tracking_uri": "http://elsewhere.example"}
    journal = SPOOL / "a.jsonl"
    journal.write_text(json.dumps(head) + "\n")
    (why,) = syncing.sync(here.path).refused.values()
    assert why == f"its run is in http://elsewhere.example, and the store is {server.uri}"
    journal.unlink()


def test_a_model_names_its_run(here: Toy, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    away(monkeypatch)
    with tracking.stage_run("train", Numbers(seed=0)) as run:
        Path("model").mkdir(exist_ok=True)
        Path("model/MLmodel").write_text(f"run_id: {run.run_id}\n")
        run.artifact(Path("model"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    over(monkeypatch)
    syncing.sync(here.path)
    (train,) = by_role(here.runs(server.uri), "stage")
    described = here.download(train.info.run_id, "model/MLmodel", server.uri)
    assert described.read_text() == f"run_id: {train.info.run_id}\n"


def test_waiting_runs_are_counted_without_opening_them(here: Toy) -> None:
    assert waits(here.path) == 0
    SPOOL.mkdir(parents=True, exist_ok=True)
    (SPOOL / "a.jsonl").write_text("")
    assert waits(here.path) == 1
    os.unlink(SPOOL / "a.jsonl")


def test_what_was_sent_is_told_in_words() -> None:
    sent = syncing.Sent(
        "http://s", runs={"a": "b", "c": "d", "e": "f"}, stages=["train", "", "train"], journals=2
    )
    assert syncing.told(sent, ids=False) == (
        "sent to http://s: 3 runs (2 of train), and the rest of 2 runs"
    )
    nothing = syncing.Sent("http://s", waiting={"1"})
    assert syncing.told(nothing) == "sent to http://s: nothing\nnot yet, it still runs: 1"
