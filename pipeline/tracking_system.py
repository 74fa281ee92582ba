"""What a stage asks of the machine, as MLflow's own `system/…` metrics.

MLflow's monitor writes to the store from a thread of its own, which hangs and complains while the
store is away. Here a sample is an operation like any other: it goes through the sink, hence to the
journal where the store is dead. The names are MLflow's, under which its UI has a page for them; so
are the variables: MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING (here true unless it is set to false),
MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL (seconds) and MLFLOW_SYSTEM_METRICS_NODE_ID.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from pipeline.tracking_sink import Sink

EVERY_S = 10.0


@contextmanager
def sampled(sink: Sink, *, run: str) -> Iterator[None]:
    """Samples of the machine go to `run` while the block runs; nothing here raises or waits."""
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in ("false", "0"):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_sample, args=(sink, run, over), name="system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def every_s() -> float:
    """Seconds between two samples: MLflow's variable, or its default for what is no number."""
    try:
        seconds = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", ""))
    except ValueError:
        return EVERY_S
    return seconds if seconds > 0 else EVERY_S


def _sample(sink: Sink, run: str, over: threading.Event) -> None:
    node = os.environ.get("MLFLOW_SYSTEM_METRICS_NODE_ID")
    prefix = f"system/{node}/" if node else "system/"
    seconds, step = every_s(), 0
    try:
        host, gpus = _Host(), _Gpus()
        while not over.wait(seconds):
            now = int(time.time() * 1000)
            found = host.read() | gpus.read()
            points = [[prefix + name, value, now, step] for name, value in found.items()]
            sink.put({"op": "metrics", "run": run, "values": points})
            step += 1
    except Exception as error:  # whatever a driver or a container says must not cost the stage
        sys.stderr.write(f"no more system metrics: {error}\n")


class _Host:
    """Processor, memory, disk and network since the start."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # the first call has nothing to compare with
        self._network = psutil.net_io_counters()

    def read(self) -> dict[str, float]:
        memory, disk, network = (
            psutil.virtual_memory(),
            psutil.disk_usage(os.curdir),
            psutil.net_io_counters(),
        )
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
        }
        if network is not None and self._network is not None:  # None: a container without one
            received = network.bytes_recv - self._network.bytes_recv
            sent = network.bytes_sent - self._network.bytes_sent
            found["network_receive_megabytes"] = received / 1e6
            found["network_transmit_megabytes"] = sent / 1e6
        return found


class _Gpus:
    """GPUs: by NVIDIA's library where it is installed, else what torch knows of its memory."""

    def __init__(self) -> None:
        try:
            import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
            self._nvml = pynvml
        except Exception:  # not installed, or no driver: each version says so in another way
            self._nvml = None

    def read(self) -> dict[str, float]:
        return self._by_torch() if self._nvml is None else self._by_nvml()

    def _by_nvml(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for i, handle in enumerate(self._handles):
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            used = self._nvml.nvmlDeviceGetUtilizationRates(handle)
            found |= _of_memory(i, memory.total - memory.used, memory.total)
            found[f"gpu_{i}_utilization_percentage"] = float(used.gpu)
            watts = self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000
            found[f"gpu_{i}_power_usage_watts"] = watts
        return found

    def _by_torch(self) -> dict[str, float]:
        """Only of a GPU in use: to ask would begin to use it. Nor is torch imported for it."""
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return {}
        found: dict[str, float] = {}
        for i in range(torch.cuda.device_count()):
            found |= _of_memory(i, *torch.cuda.mem_get_info(i))
        return found


def _of_memory(number: int, free: int, total: int) -> dict[str, float]:
    name = f"gpu_{number}_memory_usage"
    used = total - free
    return {f"{name}_percentage": 100 * used / total, f"{name}_megabytes": used / 1e6}
