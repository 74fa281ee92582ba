"""What a stage asks of the machine: MLflow's own names, through the sink, and never an error."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from toy_tree import Numbers, Toy

from pipeline import tracking
from pipeline.artifacts import read_json
from pipeline.tracking_sink import Sink
from pipeline.tracking_system import every_s, sampled

pytest_plugins = ["toy_fixtures"]

HOST = {
    "cpu_utilization_percentage", "system_memory_usage_megabytes",
    "system_memory_usage_percentage", "disk_usage_percentage", "disk_usage_megabytes",
    "disk_available_megabytes",
}  # fmt: skip


class Kept(Sink):
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []

    def put(self, operation: dict[str, Any]) -> None:
        self.got.append(operation)

    def wait(self, samples: int) -> None:
        until = time.monotonic() + 60
        while len(self.got) < samples and time.monotonic() < until:
            time.sleep(0.01)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")


@pytest.mark.usefixtures("often")
def test_samples_are_points_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Kept()
    with sampled(sink, run="r"):
        sink.wait(3)
    count = len(sink.got)
    names = {name for name, *_ in sink.got[0]["values"]}
    assert names >= {f"system/{name}" for name in HOST}
    points = [(one["op"], one["run"], one["values"][0][3]) for one in sink.got]
    assert points == [("metrics", "r", step) for step in range(count)]
    assert all(value >= 0 for one in sink.got for _, value, *_ in one["values"])
    time.sleep(0.1)
    assert len(sink.got) == count


@pytest.mark.usefixtures("often")
def test_mlflow_names_them_alike() -> None:
    """A page of its UI shows what has these names."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    theirs: set[str] = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        theirs |= monitor.aggregate_metrics().keys()
    sink = Kept()
    with sampled(sink, run="r"):
        sink.wait(1)
    assert {name.removeprefix("system/") for name, *_ in sink.got[0]["values"]} == theirs


@pytest.mark.usefixtures("often")
def test_they_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    sink = Kept()
    with sampled(sink, run="r"):
        time.sleep(0.2)
    assert sink.got == []


@pytest.mark.parametrize(("said", "seconds"), [("2.5", 2.5), ("", 10), ("often", 10), ("0", 10)])
def test_how_often(monkeypatch: pytest.MonkeyPatch, said: str, seconds: float) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", said)
    assert every_s() == seconds


@pytest.mark.usefixtures("often")
def test_what_goes_wrong_ends_the_samples_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise OSError("no /proc here")

    monkeypatch.setattr(psutil, "virtual_memory", broken)
    sink, told = Kept(), ""
    with sampled(sink, run="r"):
        until = time.monotonic() + 60
        while not told and time.monotonic() < until:
            told = capsys.readouterr().err
            time.sleep(0.01)
    assert (sink.got, told) == ([], "no more system metrics: no /proc here\n")


@pytest.mark.usefixtures("often")
def test_a_gpu_in_use_is_seen_without_nvidias_library(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 2,
        mem_get_info=lambda i: (60e9 - i * 20e9, 80e9),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    sink = Kept()
    with sampled(sink, run="r"):
        sink.wait(1)
    found = {name: value for name, value, *_ in sink.got[0]["values"]}
    assert found["system/gpu_0_memory_usage_percentage"] == 25
    assert found["system/gpu_1_memory_usage_megabytes"] == 40_000


@pytest.mark.usefixtures("often")
def test_a_dead_store_leaves_them_in_the_journal(tmp_path: Path) -> None:
    class Dead:
        def log_batch(self, *_: Any, **__: Any) -> None:
            raise ConnectionError("refused")

    journal = tmp_path / "r.jsonl"
    sink = Sink(Dead(), run="r", journal=journal, tracking_uri="http://away")
    with sampled(sink, run="r"):
        until = time.monotonic() + 60
        while not journal.is_file() and time.monotonic() < until:
            time.sleep(0.01)
    sink.close()
    head, *lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert head["op"] == "journal"
    assert lines[0]["values"][0][0] == "system/cpu_utilization_percentage"


def test_a_run_has_them_and_its_result_has_not(here: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with tracking.stage_run("train", Numbers(seed=0)) as run:
        time.sleep(1)
        run.metrics({"rows": 4})
    logged = here.client().get_run(run.run_id).data.metrics
    assert logged["system/system_memory_usage_percentage"] > 0
    assert read_json(Path("metrics/train.json")) == {"rows": 4}
    assert not [name for name in here.receipt("train")["metrics"] if "system" in name]
