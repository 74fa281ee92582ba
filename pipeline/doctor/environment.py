"""What surrounds a run: libraries, git, DVC, the tracking store, memory and disk of the host."""

import configparser
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from pipeline import paths
from pipeline.doctor.findings import Fact, Finding, Look
from pipeline.tracking_store import probe, public

LIBRARIES = {
    "torch": "torch",
    "OpenCLIP": "open_clip_torch",
    "DVC": "dvc",
    "MLflow": "mlflow",
}

DVC = Path(".dvc")
CGROUP = Path("/sys/fs/cgroup")


def look(answer: Callable[[], str | None]) -> Look:
    """Versions, git, DVC and tracking; `answer` is what `begin_probe` returned."""
    findings = [*_dvc_problems(), *_git_problems()]
    tracking, found = _tracking(answer)
    facts = [
        Fact("environment", "versions", _versions()),
        Fact("environment", "tracking", tracking),
        Fact("environment", "git", _git_state()),
        Fact("environment", "DVC remote", _remote(_dvc_config(DVC))),
    ]
    return Look([*findings, *found], facts)


def begin_probe() -> Callable[[], str | None]:
    """Ask the tracking store in a thread; the function returned waits for its answer 2 s more.

    It returns None if the store answers, else why not.
    """
    said: list[str | None] = []
    asking = threading.Thread(target=lambda: said.append(probe(_tracking_uri())), daemon=True)
    asking.start()

    def answer() -> str | None:
        asking.join(timeout=2)
        return said[0] if said else "no answer yet"

    return answer


def host_memory() -> float:
    """Bytes that a new process may still take, a container's limit included."""
    free: int = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such limit: "max", or another system
        return float(free)
    return float(min(free, limit - used))


def free_disk() -> float:
    """Bytes free where the outputs go."""
    return float(shutil.disk_usage(".").free)


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name, package in LIBRARIES.items():
        try:
            found.append(f"{name} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return ", ".join(found)


def _tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def _tracking(answer: Callable[[], str | None]) -> tuple[str, list[Finding]]:
    uri = public(_tracking_uri())
    problem = answer()
    if problem is None:
        return uri, []
    said = f"it does not answer ({problem})"
    if os.environ.get("CLIPTUNE_ON_UNREACHABLE") == "fail":
        remedy = "start it, or set CLIPTUNE_ON_UNREACHABLE=spool"
        finding = Finding("stops", "MLFLOW_TRACKING_URI", uri, said, remedy)
    else:
        remedy = "start it; until then runs are kept in .cliptune/spool"
        finding = Finding("note", "MLFLOW_TRACKING_URI", uri, said, remedy)
    return f"{uri}, which does not answer", [finding]


def _dvc_problems() -> Iterator[Finding]:
    if not paths.DVC_YAML.is_file():
        problem = "there is no dvc.yaml here: nothing to run"
        yield Finding("stops", "dvc.yaml", None, problem, "go to the folder that holds it")
    elif not DVC.is_dir():
        yield Finding("stops", ".dvc", None, "there is no .dvc here: DVC stops", "dvc init")


def _git_problems() -> Iterator[Finding]:
    no_scm = _dvc_config(DVC).get("core", "no_scm", fallback="false").lower() == "true"
    if _git("rev-parse", "--git-dir") is None:
        if not no_scm:
            problem = "this is no git repository, and DVC asks for one"
            yield Finding(
                "stops", "git", None, problem, "git init (or `dvc config core.no_scm true`)"
            )
        return
    if _git("rev-parse", "--verify", "--quiet", "HEAD") is None:
        problem = "nothing is committed yet: a run can't name the code that made it"
        yield Finding("note", "git", None, problem, "git commit before the first run")


def _git_state() -> str:
    if _git("rev-parse", "--git-dir") is None:
        return "no repository"
    commit = _git("rev-parse", "--short", "--verify", "--quiet", "HEAD")
    if commit is None:
        return "no commit yet"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    count = len(changed.splitlines()) if changed else 0
    files = "1 file" if count == 1 else f"{count} files"
    return f"{commit}, {files} changed since" if count else commit


def _git(*arguments: str) -> str | None:
    """The output of a git command, or None where it fails, hangs, or there is no git."""
    environ = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        found = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            check=True,
            timeout=2,
            env=environ,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _remote(config: configparser.ConfigParser) -> str:
    """The remote to which `dvc push` goes, as far as the project's own settings tell."""
    sections = {name.strip("'"): config[name] for name in config.sections()}
    urls = {
        name.removeprefix('remote "').removesuffix('"'): public(section.get("url", ""))
        for name, section in sections.items()
        if name.startswith('remote "')
    }
    default = config.get("core", "remote", fallback=None)
    if default in urls:
        return f"{default} ({urls[default]})"
    if urls:
        return f"{', '.join(urls)}, none of them the default (`dvc remote default NAME`)"
    return "none in .dvc/config: `dvc push` has nowhere to go"


def _dvc_config(folder: Path) -> configparser.ConfigParser:
    """The project's own DVC settings; empty where there are none or they don't parse."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read([folder / "config", folder / "config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return configparser.ConfigParser()
    return config
