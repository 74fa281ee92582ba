"""Where runs go: the tracking store of the user, or a local spool while it does not answer.

MLFLOW_TRACKING_URI        the store; without it mlflow.db and mlruns/ in the main work tree
MLFLOW_EXPERIMENT_NAME     default: cliptune
CLIPTUNE_ON_UNREACHABLE    spool (default): log to .cliptune/spool and go on; fail: stop before work
"""

import http.client
import logging
import os
import re
import socket
import ssl
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline import paths
from pipeline.errors import TrackingError
from pipeline.tracking_views import describe

if TYPE_CHECKING:
    from mlflow import MlflowClient

Begun = TypeVar("Begun")

PROBE_SECONDS = 5.0

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

PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


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
    """The folder that keeps what could not be sent."""
    return root / paths.WORK / "spool"


def public(uri: str) -> str:
    """`uri` without user info and query (`git@host:path` is no URI and stays as it is)."""
    return redact(uri.partition("?")[0])


def redact(text: str) -> str:
    """`text` without the user info of the URIs in it, nor what follows password= and the like."""
    text = re.sub(r"://[^/\s]+@", "://", text)
    return re.sub(r"(?i)\b(password|passwd|token|secret)=[^&\s]+", r"\1=…", text)


def first_line(error: BaseException) -> str:
    """What an error says, short and without secrets."""
    return redact(str(error)).strip().partition("\n")[0][:300] or type(error).__name__


def connect(root: Path, begin: Callable[[Connection], Begun]) -> tuple[Connection, Begun]:
    """Open the store and `begin` there, or in the spool; one process of a work tree at a time.

    Parallel first users of a fresh SQLite database crash, hence the lock. Raises TrackingError
    when the store does not answer and the policy is to stop, or when its experiment is deleted.
    """
    policy = os.environ.get("CLIPTUNE_ON_UNREACHABLE") or "spool"
    if policy not in {"spool", "fail"}:
        raise TrackingError(f"CLIPTUNE_ON_UNREACHABLE is {policy!r}: set it to spool or fail")
    uri = _user_uri(root)
    problem = probe(uri)
    if problem is None or policy == "spool":
        import_quietly()  # takes seconds: not while others wait for the lock
    lock = root / paths.WORK / "tracking.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if problem is None:
            try:
                return _open(uri, root / "mlruns", begin, spooled=False)
            except TrackingError:
                raise
            except Exception as error:  # "no store here" comes in a dozen classes
                problem = first_line(error)
        if policy == "fail":
            raise TrackingError(
                f"MLflow at {public(uri)} does not answer ({problem}). Nothing was computed. Start "
                "it, or set CLIPTUNE_ON_UNREACHABLE=spool to keep the runs here meanwhile."
            )
        folder = spool(root)
        folder.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f"MLflow at {public(uri)} does not answer ({problem}): kept in {folder}\n")
        local = f"sqlite:///{folder / 'mlflow.db'}"
        return _open(local, folder / "mlruns", begin, spooled=True)


def _user_uri(root: Path) -> str:
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
    except (OSError, ValueError, http.client.HTTPException) as error:
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
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiment = _experiment(client, None if uri.startswith("http") else artifacts.as_uri())
        connection = Connection(client, experiment, uri, spooled)
        return connection, begin(connection)


def _experiment(client: "MlflowClient", artifacts: str | None) -> str:
    """The id of the experiment, made and described at first use."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "cliptune"
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
