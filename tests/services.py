"""Real services for tests: PostgreSQL, an MLflow server, S3 by moto, and a line that breaks.

Each is a process of its own on a free port of 127.0.0.1, with its files in a temporary folder, and
is gone when its context ends:

    with postgres() as database:                       # skips where it can't be started
        with mlflow_server(tmp_path, backend=database.create("mlflow")) as server: ...
    with s3_server(tmp_path, bucket="store") as s3:
        s3.use(folder)                                 # the DVC remote `store` of a work tree
        subprocess.run(["dvc", "push"], env=os.environ | s3.environ)
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipeline.tracking_database import driven
from tests.tracking.toy_server import Server, begin, free_port

PASSWORD = "/".join(("p@ss", "w0rd:9kZ%"))  # in two parts: as one it would be a credential here
"""With all that a URI must quote."""

SECRETS = (PASSWORD, quote(PASSWORD, safe=""), "w0rd", "fJ7q2LmX9vTbR4sKe8Wd1Yz6Hn3Gc5Pa0Uo")
"""What no run, receipt or message may hold: the password, written as it is, quoted, a part of it;
and the secret key of S3."""

KEY_ID, SECRET_KEY = "cliptune-tests", SECRETS[-1]

PATIENCE_S = 60.0
"""Until a service that does not answer counts as broken."""


@dataclass
class Postgres:
    """A running PostgreSQL with a superuser `cliptune`, whose password is PASSWORD."""

    port: int
    start: Callable[[], subprocess.Popen[bytes]]
    log: Path

    def __post_init__(self) -> None:
        self.process = self.start()

    def uri(self, database: str = "postgres") -> str:
        """The URI of a database, with user and password, as its users write it."""
        return f"postgresql://cliptune:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def public_uri(self, database: str) -> str:
        """The same without them."""
        return f"postgresql://127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; its URI."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.uri(database)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement outside of a transaction; the rows, where it gives some."""
        import psycopg2

        connection = psycopg2.connect(self.uri(database), connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def text(self, database: str) -> str:
        """Every row of every table of a database, as text."""
        named = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        tables = [name for (name,) in self.execute(named, database)]
        return "\n".join(
            str(row) for name in tables for row in self.execute(f'SELECT * FROM "{name}"', database)
        )

    def end(self) -> None:
        """Stop at once; what was committed is kept."""
        _kill(self.process)

    def again(self) -> None:
        """Start once more, on the same port and data."""
        self.process = self.start()
        assert self.answers(), self.log.read_text()

    def answers(self) -> bool:
        """Whether it answers before PATIENCE_S has passed, or it has ended."""
        import psycopg2

        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.execute("SELECT 1")
            except psycopg2.OperationalError:
                time.sleep(0.1)
            else:
                return True
        return False


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of its own; skips the test, with the reason, where none can be started.

    It refuses to run as root, so root starts it as the user `postgres` or `nobody`, who owns its
    folder. That lies directly below the system's temporary one: pytest's is closed to others.
    """
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: no initdb on PATH nor in /usr/lib/postgresql/*/bin")
    if importlib.util.find_spec("psycopg2") is None:
        pytest.skip("no driver for PostgreSQL here: pip install 'cliptune[postgres]'")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                os.chown(path, user["user"], user["group"])
        yield from _run_postgres(programs, folder, user)
    finally:
        shutil.rmtree(folder)


def _run_postgres(programs: Path, folder: Path, user: Mapping[str, Any]) -> Iterator[Postgres]:
    data, log = folder / "data", folder / "log"
    made = subprocess.run(
        [programs / "initdb", "--pgdata", data, "--username=cliptune", "--auth=scram-sha-256",
         "--pwfile", folder / "password", "--encoding=UTF8", "--locale=C", "--no-sync"],
        cwd=folder, capture_output=True, text=True, check=False, **user,
    )  # fmt: skip
    if made.returncode:
        said = (made.stderr + made.stdout).strip().splitlines()
        pytest.skip(f"PostgreSQL can't be started here: initdb says {said[-1] if said else '-'}")
    port = free_port()
    # Nothing here outlives the machine, so nothing waits for its disk; the process may be killed.
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder,
                "fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}  # fmt: skip
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def start() -> subprocess.Popen[bytes]:
        with log.open("a") as output:
            return subprocess.Popen(
                [programs / "postgres", "-D", data, *options],
                cwd=folder, stdout=output, stderr=output, start_new_session=True, **user,
            )  # fmt: skip

    database = Postgres(port, start, log)
    try:
        if not database.answers():
            pytest.skip(f"PostgreSQL can't be started here: it says {log.read_text()[-300:]}")
        yield database
    finally:
        database.end()


def _programs() -> Path | None:
    """The folder of initdb and postgres: Debian keeps them off PATH. The newest of several."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    complete = (f for f in folders if (f / "initdb").exists() and (f / "postgres").exists())
    return next(complete, None)


def _unprivileged() -> dict[str, Any]:
    """As whom to start what refuses to run as root: arguments of subprocess; empty: as we are."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


@contextmanager
def mlflow_server(
    folder: Path,
    *,
    backend: str | None = None,
    artifacts: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """An `mlflow server` with proxied artifacts, whose files lie in `folder`, made where missing.

    `backend` is a URI of a database, by default of a SQLite file in `folder`; `artifacts` the
    destination behind the proxy, by default a folder there; `environ` what the server alone knows,
    such as the credentials of that destination.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = driven(backend) if backend else None  # MLflow's own command wants psycopg by default
    server = begin(folder, free_port(), backend=store, artifacts=artifacts, environ=environ)
    try:
        yield server
    finally:
        server.end()


@dataclass
class S3:
    """A running S3 by moto, which keeps its objects in memory: when it ends, they are gone.

    It takes any credentials, as moto does; `environ` holds those of a client.
    """

    port: int
    bucket: str
    process: subprocess.Popen[bytes]
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def use(self, folder: Path, *, path: str = "dvc", endpoint: str | None = None) -> None:
        """Make the bucket the default DVC remote, `store`, of the work tree in `folder`.

        Where it is goes to .dvc/config, to be committed; who may, to nobody: that is `environ`.
        """
        for command in (
            ["add", "--force", "--default", "store", f"s3://{self.bucket}/{path}"],
            ["modify", "store", "endpointurl", endpoint or self.endpoint],
        ):
            subprocess.run(
                [sys.executable, "-m", "dvc", "remote", *command, "--quiet"], cwd=folder, check=True
            )

    def keys(self, prefix: str = "") -> list[str]:
        """The names of the objects below a prefix."""
        pages = self._client().get_paginator("list_objects_v2")
        listed = pages.paginate(Bucket=self.bucket, Prefix=prefix)
        return [one["Key"] for page in listed for one in page.get("Contents", [])]

    def content(self, key: str) -> bytes:
        """An object."""
        return bytes(self._client().get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def make_bucket(self, name: str) -> None:
        self._client().create_bucket(Bucket=name)

    def _client(self) -> Any:
        import boto3

        # Told here, and not by os.environ, which is the test's.
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip

    def end(self) -> None:
        _kill(self.process)


@contextmanager
def s3_server(folder: Path, *, bucket: str = "store") -> Iterator[S3]:
    """An S3 with an empty bucket. What it says is in `folder`/s3.log: a line a request."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with (folder / "s3.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    # Nothing of the user's own configuration of AWS counts, and no metadata service is asked.
    nothing = folder / "aws"
    nothing.touch()
    environ = {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(nothing),
        "AWS_SHARED_CREDENTIALS_FILE": str(nothing),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    s3 = S3(port, bucket, process, environ)
    try:
        _wait_for(f"{s3.endpoint}/moto-api/", process)
        s3.make_bucket(bucket)
        yield s3
    finally:
        s3.end()


class Line:
    """A TCP line to a port of 127.0.0.1, on a port of its own, that can be cut and mended.

    What is behind it lives on when it is cut, as a server does when the network goes.
    """

    def __init__(self, target: int):
        self._target = target
        self._left: float = float("inf")
        self._whole = True
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.sent = self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def whole(self) -> bool:
        return self._whole

    def cut(self, *, after: int = 0) -> None:
        """Break it, now or when so many more bytes have gone to the server."""
        with self._lock:
            self._left = after
            if after <= 0:
                self._break()

    def mend(self) -> None:
        """Let new connections through again."""
        with self._lock:
            self._left, self._whole = float("inf"), True

    def end(self) -> None:
        with self._lock:
            self._break()
        self._listener.close()

    def _break(self) -> None:
        self._whole = False
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                if not self._whole:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._sockets |= {near, far}
            for pair, counts in (((near, far), True), ((far, near), False)):
                threading.Thread(target=self._carry, args=(*pair, counts), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    self.received += 0 if counts else len(data)
                    if counts:
                        self.sent += len(data)
                        self._left -= len(data)
                        if self._left < 0:
                            self._break()
                            return
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets -= {source, target}
        source.close()
        target.close()


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    """A line to a service, that a test can cut."""
    line = Line(port)
    try:
        yield line
    finally:
        line.end()


def without_secrets(*texts: str) -> list[str]:
    """The credentials that texts hold and should not: to be compared with []."""
    return [secret for secret in SECRETS if any(secret in text for text in texts)]


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} did not answer")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # a test may have killed it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
