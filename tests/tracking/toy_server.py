"""A real MLflow tracking server, on a port and in a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Server:
    """A running `mlflow server`."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def secret_uri(self) -> str:
        return f"http://me:hunter2@127.0.0.1:{self.port}"

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        with suppress(ProcessLookupError):  # a test may have killed it
            self.signal(signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def begin(
    folder: Path,
    port: int,
    *,
    backend: str | None = None,
    artifacts: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Server:
    """A server whose store lies in `folder`, or where `backend` says; it answers when this returns.

    `artifacts`: the destination behind its proxy, by default a folder there too; `environ`: what
    the server alone knows.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    store = {"MLFLOW_BACKEND_STORE_URI": backend or f"sqlite:///{folder}/server.db"}
    where = ["--port", str(port)]
    files = ["--artifacts-destination", artifacts or str(folder / "artifacts"), "--workers", "1"]
    process = subprocess.Popen(
        [*command, *where, *files],
        cwd=folder,
        env=os.environ
        | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        | store
        | dict(environ or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started = Server(port, process)
    try:
        wait_for(started)
    except BaseException:
        started.end()
        raise
    return started


def wait_for(server: Server) -> None:
    until = time.time() + 120
    while time.time() < until and server.process.poll() is None:
        try:
            urllib.request.urlopen(f"{server.uri}/health", timeout=1).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError("the server did not start")
