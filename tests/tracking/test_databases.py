"""A real server on SQLite and on PostgreSQL, and PostgreSQL without a server."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from toy_server import Server, free_port
from toy_tree import Numbers, Run, Toy, by_role, make_toy

from pipeline import recording, tracking, tracking_database, tracking_store
from pipeline.errors import TrackingError
from pipeline.history import spooled
from pipeline.history import sync as syncing
from pipeline.history.registry import CHAMPION, PREVIOUS, ROLLED_BACK, Registry, number
from pipeline.history.rollback import rollback
from pipeline.tracking_store import Connection, reach, waits
from tests.services import Postgres, mlflow_server, postgres, without_secrets

pytest_plugins = ["toy_fixtures"]

STEPS = 1_500
"""Of one metric, which is more than MLflow takes in a call."""


@dataclass
class Served:
    """A server, and what its database holds, as text."""

    server: Server
    folder: Path
    text: Callable[[], str]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    if request.param == "sqlite":
        with mlflow_server(folder) as server:
            file = folder / "server.db"
            yield Served(server, folder, lambda: file.read_bytes().decode(errors="replace"))
        return
    database: Postgres = request.getfixturevalue("database")
    with mlflow_server(folder, backend=database.create("served")) as server:
        yield Served(server, folder, lambda: database.text("served"))


@pytest.fixture
def direct(here: Toy, database: Postgres, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The toy, whose runs go to a database of this test's own, without a server."""
    name = re.sub(r"\W", "_", os.environ["MLFLOW_EXPERIMENT_NAME"])[:60]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database.create(name))
    return here


def a_pipeline(toy: Toy) -> None:
    """Two stages and their record: params, metrics, curves, a file and a folder of files."""
    files = toy.path / "files/deep"
    files.mkdir(parents=True, exist_ok=True)
    (files / "note ü.txt").write_text("a")
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, Numbers(seed=7)) as run:
            for step in range(STEPS):
                run.log({"loss": 1 / (step + 1)}, step=step)
            run.metrics({"rows": 4})
            run.artifact(files / "note ü.txt")
            run.artifact(files.parent)
    recording.record_pipeline()


def check_pipeline(toy: Toy, runs: list[Run], uri: str) -> None:
    (pipeline,), (prepare, train) = by_role(runs, "pipeline"), by_role(runs, "stage")
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert pipeline.data.tags["pipeline.complete"] == "true"
    assert pipeline.data.tags["dvc.stage.train.run_id"] == train.info.run_id
    assert train.data.tags["dvc.upstream.prepare.run_id"] == prepare.info.run_id
    assert (pipeline.data.params["seed"], pipeline.data.metrics["train/rows"]) == ("7", 4)
    history = toy.client(uri).get_metric_history(train.info.run_id, "train/loss")
    assert len(history) == STEPS
    assert sum(point.value for point in history) == pytest.approx(7.8908, abs=1e-4)  # H(1,500)
    for path in ("note ü.txt", "files/deep/note ü.txt"):
        assert toy.download(train.info.run_id, path, uri).read_text() == "a"
    locked = toy.download(pipeline.info.run_id, "source/params.yaml", uri)
    assert locked.read_bytes() == (toy.path / "params.yaml").read_bytes()


def kept_here(toy: Toy) -> str:
    """All texts that the work tree keeps of runs: receipts, spool, artifacts."""
    folders = (toy.path / name for name in ("runs", "mlruns", ".cliptune"))
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return "".join(file.read_text(errors="replace") for file in files)


def test_a_server_holds_a_pipeline_with_its_files(
    here: Toy, served: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.server.uri)
    a_pipeline(here)
    runs = here.runs(served.server.uri)
    check_pipeline(here, runs, served.server.uri)
    assert {run.info.artifact_uri.partition(":")[0] for run in runs} == {"mlflow-artifacts"}
    assert len(list((served.folder / "artifacts").rglob("note ü.txt"))) == 4  # 2 in each stage
    assert capfd.readouterr().err == ""
    assert without_secrets(served.text(), kept_here(here)) == []
    assert waits(here.path) == 0


@pytest.fixture
def registry(
    here: Toy, served: Served, monkeypatch: pytest.MonkeyPatch
) -> tuple[Connection, Registry]:
    """A registered model of this test's own, with the versions 1 and 2."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.server.uri)
    connection, _ = reach(here.path, lambda _: None)
    registry = Registry(connection, os.environ["MLFLOW_EXPERIMENT_NAME"])
    run = connection.client.create_run(connection.experiment).info.run_id
    for digest in ("one", "two", "one"):
        registry.register(digest, run=run, tags={"pipeline.key": digest})
    return connection, registry


def versions(connection: Connection, model: str) -> list[int]:
    found = connection.client.search_model_versions(f"name='{model}'")
    return sorted(int(one.version) for one in found)


def test_the_registry_promotes_and_rolls_back(
    here: Toy, registry: tuple[Connection, Registry]
) -> None:
    connection, model = registry
    assert versions(connection, model.name) == [1, 2]
    assert model.version("2").tags["pipeline.key"] == "two"
    assert number(model.by_bundle("two")) == "2"
    assert model.by_alias(CHAMPION) is None
    with model.alone():
        model.crown("1")
        model.crown("2")
    assert (number(model.by_alias(CHAMPION)), number(model.by_alias(PREVIOUS))) == ("2", "1")
    assert rollback(here.path, model.name) == ("2", "1")
    assert (number(model.by_alias(CHAMPION)), model.by_alias(PREVIOUS)) == ("1", None)
    assert ROLLED_BACK in model.version("2").tags
    with pytest.raises(TrackingError, match="is the first champion"):
        rollback(here.path, model.name)


def at_once(*claims: Callable[[], None]) -> list[str]:
    """Run claims in a thread each, begun together; what each said, in alphabetical order."""
    together, said = threading.Barrier(len(claims)), []

    def one(claim: Callable[[], None]) -> None:
        together.wait()
        try:
            claim()
            said.append("went on")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=(claim,)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(said)


def test_of_promotions_that_really_come_at_once_one_goes_on(
    registry: tuple[Connection, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four claim it in the same moment, each having seen it free; three times over."""
    connection, model = registry
    for _ in range(3):
        seen = threading.Barrier(4)
        inside = []

        def claim() -> None:
            own = Registry(connection, model.name)
            look, first = own._lock, [True]

            def together() -> str:
                found = look()
                if first.pop() if first else False:
                    seen.wait()  # noqa: B023 - used up before the next round
                return found

            own._lock = together  # type: ignore[method-assign]
            with own.alone():
                inside.append(1)  # noqa: B023
                time.sleep(0.5)

        said = at_once(*[claim] * 4)
        assert len(inside) == 1, said
        assert said[-1] == "went on"
        for other in said[:-1]:
            assert other.startswith(f"TrackingError: another promotion of '{model.name}' is under")
    assert model._lock() == ""


def test_versions_registered_at_once_are_all_there(
    registry: tuple[Connection, Registry],
) -> None:
    connection, _ = registry
    run = connection.client.create_run(connection.experiment).info.run_id
    name = f"{os.environ['MLFLOW_EXPERIMENT_NAME']} anew"  # so the model itself is made, too

    def register(digest: str) -> None:
        Registry(connection, name).register(digest, run=run, tags={})

    said = at_once(*[partial(register, str(number)) for number in range(4)])
    assert said == ["went on"] * 4
    assert versions(connection, name) == [1, 2, 3, 4]


@pytest.mark.slow
def test_of_two_processes_that_promote_at_once_one_goes_on(
    registry: tuple[Connection, Registry],
) -> None:
    _, model = registry
    code = f"""
import os, sys, time
from pipeline.history.registry import Registry
from pipeline.tracking_store import reach
from pathlib import Path
connection, _ = reach(Path.cwd(), lambda _: None)
registry = Registry(connection, {model.name!r})
print("ready", flush=True)
sys.stdin.readline()
with registry.alone():
    registry.crown(sys.argv[1])
"""
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", code, version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for version in ("1", "2")
    ]
    for process in begun:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in begun:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[1] for process in begun]
    codes = [process.returncode for process in begun]
    assert sorted(codes) == [0, 1]
    assert "TrackingError: another promotion" in said[codes.index(1)]
    assert number(model.by_alias(CHAMPION)) == ["1", "2"][codes.index(0)]


def over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The execution of these runs, which is this very process, has ended."""
    for module in (syncing, spooled):
        monkeypatch.setattr(module, "still_runs", lambda _: False)


def test_what_was_spooled_is_sent_whatever_is_behind_the_server(
    here: Toy, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    a_pipeline(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.server.uri)
    over(monkeypatch)
    sent = syncing.sync(here.path)
    assert (len(sent.runs), sent.refused, waits(here.path)) == (3, {}, 0)
    check_pipeline(here, here.runs(served.server.uri), served.server.uri)
    assert syncing.sync(here.path).runs == {}
    assert len(here.runs(served.server.uri)) == 3
    assert without_secrets(served.text()) == []


@pytest.mark.parametrize(
    ("uri", "here", "used"),
    [
        ("postgresql://a:b@h/d", ["psycopg2"], "postgresql+psycopg2://a:b@h/d"),
        ("postgresql://a:b@h/d", ["psycopg"], "postgresql+psycopg://a:b@h/d"),
        (
            "postgresql:///d?host=/run",
            ["psycopg", "psycopg2"],
            "postgresql+psycopg2:///d?host=/run",
        ),
        ("postgresql://h/d", [], "postgresql://h/d"),
        ("postgresql+psycopg://h/d", ["psycopg2"], "postgresql+psycopg://h/d"),
        ("sqlite:////a/mlflow.db", ["psycopg2"], "sqlite:////a/mlflow.db"),
        ("https://h/mlflow", ["psycopg2"], "https://h/mlflow"),
    ],
)
def test_a_database_gets_the_driver_that_is_here(
    monkeypatch: pytest.MonkeyPatch, uri: str, here: list[str], used: str
) -> None:
    monkeypatch.setattr(tracking_database, "find_spec", lambda name: name in here)
    assert tracking_database.driven(uri) == used


def store_of(uri: str) -> str:
    """As a client of MLflow's own needs it."""
    return tracking_database.driven(uri)


def test_a_database_without_a_server_holds_a_pipeline(
    direct: Toy, database: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    name = uri.rpartition("/")[2]
    a_pipeline(direct)
    check_pipeline(direct, direct.runs(store_of(uri)), store_of(uri))
    assert capfd.readouterr().err == ""
    connection, _ = reach(direct.path, lambda _: None)
    assert connection.public_uri == database.public_uri(name)
    assert direct.receipt("pipeline")["tracking_uri"] == database.public_uri(name)
    assert without_secrets(database.text(name), kept_here(direct), connection.public_uri) == []
    model = Registry(connection, "model")
    (train,) = direct.runs(store_of(uri))[-1:]
    assert number(model.register("one", run=train.info.run_id, tags={})) == "1"
    with model.alone():
        model.crown("1")
    assert number(model.by_alias(CHAMPION)) == "1"


def test_what_was_spooled_is_sent_to_a_database(
    direct: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    a_pipeline(direct)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    over(monkeypatch)
    sent = syncing.sync(direct.path)
    assert (len(sent.runs), sent.refused, waits(direct.path)) == (3, {}, 0)
    check_pipeline(direct, direct.runs(store_of(uri)), store_of(uri))
    assert without_secrets(syncing.told(sent)) == []


def away(database: Postgres, kind: str) -> tuple[str, str]:
    """The URI of a database that can't be used, and what is said of it."""
    uri = database.uri("nowhere")
    if kind == "down":
        return uri.replace(f":{database.port}/", f":{free_port()}/"), "refused"
    if kind == "password":
        return uri.replace("kZ%25@", "kZ%25-wrong@"), 'authentication failed for user "cliptune"'
    if kind == "hangs":
        return database.uri(), "timeout expired"
    return uri, 'database "nowhere" does not exist'


@pytest.mark.parametrize("kind", ["down", "password", "database", "hangs"])
def test_a_database_that_is_away_is_spooled_within_seconds(
    here: Toy,
    database: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    uri, why = away(database, kind)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracking_store.import_quietly()
    if kind == "hangs":
        database.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with tracking.stage_run("train", Numbers(seed=0)) as run:
            run.metrics({"rows": 4})
        took = time.monotonic() - began
    finally:
        database.process.send_signal(signal.SIGCONT)
    assert took < 15
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith("MLflow at postgresql://127.0.0.1:")
    assert why in said
    assert said.endswith(f"kept in {here.path}/.cliptune/spool")
    assert here.receipt("train")["spooled"] is True
    assert without_secrets(said, kept_here(here)) == []


def test_a_database_that_dies_in_a_stage_costs_no_result(
    here: Toy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with postgres() as mortal:
        uri = mortal.create("mortal")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with tracking.stage_run("train", Numbers(seed=0)) as run:
            run.log({"loss": 1.0}, step=0)
            mortal.end()
            began = time.monotonic()
            run.log({"loss": 0.5}, step=1)
            run.metrics({"rows": 4})
        assert time.monotonic() - began < 30
        said = capfd.readouterr().err
        assert "stopped answering" in said
        assert here.receipt("train")["journal"] == f"{run.run_id}.jsonl"
        assert without_secrets(said, kept_here(here)) == []
        mortal.again()
        over(monkeypatch)
        assert syncing.sync(here.path).journals == 1
        found = here.client(store_of(uri)).get_run(run.run_id)
        assert (found.info.status, found.data.metrics["train/rows"]) == ("FINISHED", 4)
        loss = here.client(store_of(uri)).get_metric_history(run.run_id, "train/loss")
        assert [(point.step, point.value) for point in loss] == [(0, 1.0), (1, 0.5)]


def test_without_a_driver_it_is_one_line_with_the_remedy(
    here: Toy, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("psycopg2", "psycopg"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database.uri("postgres"))
    worked = False
    with pytest.raises(TrackingError) as caught, tracking.stage_run("train", Numbers(seed=0)):
        worked = True
    assert not worked
    assert re.fullmatch(
        rf"MLflow at {database.public_uri('postgres')} needs the module psycopg2?, which is not "
        r"here: pip install -e '\.\[postgres\]'",
        str(caught.value),
    )


@pytest.mark.slow
def test_commands_work_on_a_database_and_show_no_password(
    database: Postgres, tmp_path: Path
) -> None:
    """The real DVC and every command that reads runs, each a process of its own."""
    toy = make_toy(tmp_path / "toy", tracking=database.create("commands"))
    said = toy.dvc("repro")
    toy.commit()
    said += toy.dvc("repro")
    runs = toy.runs(store_of(toy.tracking))
    assert len(runs) == 3
    run = by_role(runs, "pipeline")[0].info.run_id
    for command in (["reproduce", run], ["diff", run, run], ["sync"]):
        done = toy.run("cliptune", *command)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    assert ": identical" in said
    assert without_secrets(said, database.text("commands"), kept_here(toy)) == []
    port = str(free_port())
    ui = toy.start("cliptune", "ui", "--port", port)
    try:
        assert ui.stdout is not None
        said = ui.stdout.readline()
        assert said.startswith(f"Pipeline runs: http://127.0.0.1:{port}/")
        until, shown = time.time() + 60, ""
        while time.time() < until and "mlflow" not in shown:
            shown = Path(f"/proc/{ui.pid}/cmdline").read_text()
            time.sleep(0.2)
        assert "--port" in shown
        assert without_secrets(said, shown) == []
    finally:
        os.killpg(ui.pid, signal.SIGKILL)
        ui.communicate()


@pytest.mark.slow
def test_two_machines_that_are_first_at_once_lose_no_run(
    database: Postgres, tmp_path: Path
) -> None:
    """MLflow makes its tables at first use, and two that do so at once are in each other's way."""
    uri = database.create("first")
    toys = [make_toy(tmp_path / name, tracking=uri) for name in ("one", "two")]
    begun = [toy.start("dvc", "repro") for toy in toys]
    said = [process.communicate()[0] for process in begun]
    assert [process.returncode for process in begun] == [0, 0], said
    sent = [toy.run("cliptune", "sync") for toy in toys]
    assert [done.returncode for done in sent] == [0, 0], sent
    assert len(toys[0].runs(store_of(uri))) == 6
