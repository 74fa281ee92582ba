"""Where runs go: the tracking store of the user, or a local spool while it does not answer.

MLFLOW_TRACKING_URI        the store; without it mlflow.db and mlruns/ in the main work tree
MLFLOW_EXPERIMENT_NAME     default: cliptune
CLIPTUNE_ON_UNREACHABLE    spool (default): log to .cliptune/spool and go on; fail: stop before work
"""

import http.client
import logging
import os
import socket
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline import paths
from pipeline.errors import TrackingError
from pipeline.lineage_secrets import redact
from pipeline.tracking_database import PORTS, PROBE_SECONDS, driven, knock
from pipeline.tracking_views import describe

if TYPE_CHECKING:
    from mlflow import MlflowClient

Begun = TypeVar("Begun")

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own defaults keep a stage hanging for minutes when its server has gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Set before mlflow is imported, where the user has set nothing."""


@dataclass(frozen=True)
class Connection:
    """An open store: its experiment, and where it is (`uri` may hold credentials)."""

    client: "MlflowClient"
    experiment: str
    uri: str
    spooled: bool

    @property
    def public_uri(self) -> str:
        """Where it is, for everyone's eyes."""
        return public(self.uri)


def main_tree() -> Path:
    """The main work tree: `dvc exp run --temp` works in a temporary one, which is then deleted."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def spool(root: Path) -> Path:
    """The folder that keeps what could not be sent; the work folder of a tree may be a link."""
    return (root / paths.WORK).resolve() / "spool"


def spool_uri(root: Path) -> str:
    """The store in the spool."""
    return f"sqlite:///{spool(root) / 'mlflow.db'}"


def waits(root: Path) -> int:
    """How many runs and journals wait in the spool of the work tree at `root`; takes no time."""
    folder = spool(root)
    journals = len(list(folder.glob("*.jsonl")))
    file = folder / "mlflow.db"
    if not file.is_file():
        return journals
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
        try:
            (runs,) = store.execute(
                "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'"
            ).fetchone()
        except sqlite3.Error:  # begun, and killed before it had a table
            runs = 0
    return journals + int(runs)


def public(uri: str) -> str:
    """`uri` without user info, query and fragment (`git@host:path` is none and stays as it is)."""
    return redact(redact(uri).partition("?")[0].partition("#")[0])


def first_line(error: BaseException) -> str:
    """What an error says, short and without secrets."""
    return redact(str(error)).strip().partition("\n")[0][:300] or type(error).__name__


def connect(root: Path, begin: Callable[[Connection], Begun]) -> tuple[Connection, Begun]:
    """Open the store and `begin` there, or in the spool; one process of a work tree at a time.

    Parallel first users of a fresh SQLite database crash, hence the locks. Raises TrackingError
    when the store does not answer and the policy is to stop, or when its experiment is deleted.
    """
    policy = on_unreachable()
    uri = user_uri(root)
    problem = probe(uri)
    if problem is None or policy == "spool":
        import_quietly()  # takes seconds: not while others wait for the lock
    with locked(root):
        if problem is None:
            opened = _opened(uri, root, begin)
            if not isinstance(opened, str):
                return opened
            problem = opened
        if policy == "fail":
            raise TrackingError(
                f"MLflow at {public(uri)} does not answer ({problem}). Nothing was computed. Start "
                "it, or set CLIPTUNE_ON_UNREACHABLE=spool to keep the runs here meanwhile."
            )
        folder = spool(root)
        folder.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f"MLflow at {public(uri)} does not answer ({problem}): kept in {folder}\n")
        return _open(spool_uri(root), folder / "mlruns", begin, spooled=True)


def on_unreachable() -> str:
    """What to do while the store does not answer; TrackingError for another word."""
    policy = os.environ.get("CLIPTUNE_ON_UNREACHABLE") or "spool"
    if policy in {"spool", "fail"}:
        return policy
    raise TrackingError(f"CLIPTUNE_ON_UNREACHABLE is {policy!r}: set it to spool or fail")


def reach(root: Path, begin: Callable[[Connection], Begun]) -> tuple[Connection, Begun]:
    """Open the user's store and `begin` there, for a command that is about what it holds.

    Raises TrackingError when it does not answer, or when its experiment is deleted.
    """
    uri = user_uri(root)
    problem = probe(uri)
    if problem is None:
        import_quietly()
        with locked(root):
            opened = _opened(uri, root, begin)
        if not isinstance(opened, str):
            return opened
        problem = opened
    raise TrackingError(
        f"MLflow at {public(uri)} does not answer ({problem}): start it, or set "
        "MLFLOW_TRACKING_URI to the store that holds the runs"
    )


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """One process of a work tree at a time."""
    lock = root / paths.WORK / "tracking.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


def _opened(
    uri: str, root: Path, begin: Callable[[Connection], Begun]
) -> tuple[Connection, Begun] | str:
    """The user's store and what `begin` gave, or why it does not answer."""
    try:
        with _alone(uri):
            knock(uri)
            return _open(uri, root / "mlruns", begin, spooled=False)
    except TrackingError:
        raise
    except ModuleNotFoundError as error:  # no waiting mends it, as it does a server that is away
        postgres = uri.startswith("postgresql")
        remedy = "pip install -e '.[postgres]'" if postgres else "install the package that has it"
        raise TrackingError(
            f"MLflow at {public(uri)} needs the module {error.name}, which is not here: {remedy}"
        ) from None
    except Exception as error:  # "no store here" comes in a dozen classes
        return first_line(error)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time in a SQLite file, which several work trees may share."""
    scheme, _, path = uri.partition("?")[0].partition(":///")
    file = Path(path)
    if scheme != "sqlite" or not file.parent.is_dir():
        yield
        return
    with FileLock(file.with_name(f"{file.name}.lock")):
        yield


def user_uri(root: Path) -> str:
    """The user's store; the path of a SQLite file starts from the main work tree."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, found, path = uri.partition(":///")
    local = bool(found) and scheme == "sqlite" and not path.startswith("/")
    return f"sqlite:///{root / path}" if local else uri


def probe(uri: str) -> str | None:
    """Why the store at `uri` does not answer; None: it does, or only using it will tell."""
    try:
        parts = urlsplit(uri)
        if parts.scheme in {"http", "https"}:
            return _probe_http(public(uri).rstrip("/") + "/health")
        port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
        if parts.hostname and port:
            socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
    except ValueError:  # which quotes what it can't read: a part of a password, maybe
        return "it is no URI that can be read: a password's / : @ are written %2F %3A %40"
    except (OSError, http.client.HTTPException) as error:
        return first_line(error)
    return None


def _probe_http(url: str) -> str | None:
    request = urllib.request.Request(url)  # noqa: S310 - http or https, as just asked
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return None if error.code < 500 else f"HTTP {error.code}"
    except urllib.error.URLError as error:
        # MLflow may know the certificate's issuer (REQUESTS_CA_BUNDLE), or be told not to ask.
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)


def import_quietly() -> None:
    """Import MLflow with our settings, which it reads while it is imported."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401, PLC0415 - takes seconds: only where a run begins
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs tracebacks
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def _open(
    uri: str, artifacts: Path, begin: Callable[[Connection], Begun], *, spooled: bool
) -> tuple[Connection, Begun]:
    from mlflow import MlflowClient  # noqa: PLC0415

    with warnings.catch_warnings():
        # MLflow's own deprecations at first use are nothing that a user can mend.
        warnings.simplefilter("ignore")
        client = MlflowClient(tracking_uri=driven(uri), registry_uri=driven(uri))
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "cliptune"
        place = None if uri.startswith("http") else artifacts.as_uri()
        experiment = open_experiment(client, name, place)
        connection = Connection(client, experiment, uri, spooled)
        return connection, begin(connection)


def open_experiment(client: "MlflowClient", name: str, artifacts: str | None) -> str:
    """The id of an experiment, made and described at first use.

    `artifacts`: where a new one's files go; None: as the server says.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            made = client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:  # another machine was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
        else:
            describe(client, made)
            return str(made)
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment {name!r} is deleted: restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}) or set MLFLOW_EXPERIMENT_NAME to another one"
        )
    return str(found.experiment_id)
