"""The parts of tracking that need no run."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import tracking_session, tracking_sink
from pipeline.lineage_secrets import redact
from pipeline.tracking_runs import metric_name, param_text
from pipeline.tracking_sink import Sink, datasets, merged
from pipeline.tracking_store import probe, public


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:pw@host:5000/path?token=1", "http://host:5000/path"),
        ("postgresql+psycopg2://me:p%40w@db/mlflow?password=pw", "postgresql+psycopg2://db/mlflow"),
        ("https://token@git.example/a.git", "https://git.example/a.git"),
        ("git@git.example:a.git", "git@git.example:a.git"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
    ],
)
def test_a_uri_is_shown_without_what_is_secret(uri: str, shown: str) -> None:
    assert public(uri) == shown


def test_a_text_is_shown_without_what_is_secret() -> None:
    text = "ask http://a:b@host/x or write to c@d.e; Password=xyz&token=abc and tokens=3"
    assert redact(text) == "ask http://host/x or write to c@d.e; Password=…&token=… and tokens=3"


def test_a_probe_names_what_is_wrong() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound, not listening: refused at once
        for uri in (f"http://127.0.0.1:{port}", f"postgresql://a:b@127.0.0.1:{port}/mlflow"):
            assert "refused" in (probe(uri) or "")
    assert probe("http://127.0.0.1:port") is not None
    assert probe("sqlite:///mlflow.db") is None


@pytest.mark.parametrize(("answer", "problem"), [(b"404 no", None), (b"503 no", "HTTP 503")])
def test_a_server_that_says_no_is_alive_and_a_gateway_that_does_is_not(
    answer: bytes, problem: str | None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once, args=(listener, answer))
        thread.start()
        assert probe(f"http://127.0.0.1:{listener.getsockname()[1]}") == problem
        thread.join()


def test_files_of_numbers_are_no_data_sets() -> None:
    inputs = {"data/clean": "a.dir", "metrics/clean.json": "b", "plots/finetune.csv": "c"}
    found = datasets(inputs)
    assert [(one.dataset.name, one.dataset.digest) for one in found] == [("data/clean", "a.dir")]


def answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 " + answer + b"\r\nContent-Length: 0\r\n\r\n")


def test_metrics_of_one_run_that_follow_each_other_are_one_call() -> None:
    def metric(run: str, step: int) -> dict[str, Any]:
        return {"op": "metrics", "run": run, "values": [["loss", 0.5, 0, step]]}

    tag = {"op": "tags", "run": "a", "values": {"x": "y"}}
    operations = [metric("a", 0), metric("a", 1), tag, metric("a", 2), metric("b", 3)]
    found = [(op["op"], op["run"], len(op["values"])) for op in merged(operations)]
    assert found == [
        ("metrics", "a", 2),
        ("tags", "a", 1),
        ("metrics", "a", 1),
        ("metrics", "b", 1),
    ]
    assert operations[0] == metric("a", 0)


def test_params_are_spelled_as_in_yaml() -> None:
    texts = [param_text(value) for value in (True, None, 1e-5, "a b", ["é", 1])]
    assert texts == ["true", "null", "1e-05", "a b", '["é", 1]']


def test_a_metric_name_is_cut_to_what_mlflow_takes() -> None:
    assert len(metric_name("a" * 300)) == 250


def test_an_execution_has_ended_when_its_process_has() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = tracking_session._name(psutil.Process(child.pid))
    assert not tracking_session.has_ended(name)
    # Another process that was given the same number is not that execution.
    assert tracking_session.has_ended(name + "1")
    child.communicate(b"\n")
    assert tracking_session.has_ended(name)
    assert not tracking_session.has_ended(name.replace(socket.gethostname(), "another-host"))


def test_a_stage_by_hand_is_its_own_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    session = tracking_session.current_session()
    assert session.dvc is None
    assert session.name.split(":")[1] == str(os.getpid())


class Counting:
    """A client that knows how many points came in each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def log_batch(self, _: str, *, metrics: Sequence[object]) -> None:
        self.calls.append(len(metrics))


def test_metrics_that_come_in_a_row_are_sent_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tracking_sink, "GATHER_S", 0.5)
    client: Any = Counting()
    sink = Sink(client, run="a", journal=tmp_path / "a.jsonl", tracking_uri="")
    step = {"op": "metrics", "run": "a", "values": [["loss", 0.5, 0, 0]]}
    sink.put(step)
    sink.flush()  # which does not wait for more
    assert client.calls == [1]
    for _ in range(5):
        sink.put(step)
        time.sleep(0.01)
    until = time.monotonic() + 20
    while len(client.calls) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert client.calls == [1, 5]  # nothing followed, and they were sent all the same
    sink.put(step)
    sink.close()
    assert client.calls == [1, 5, 1]
