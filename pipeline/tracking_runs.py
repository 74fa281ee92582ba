"""The runs that a stage belongs to: what they say of their origin, and the pipeline's run."""

import getpass
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import lineage, lineage_dvc, paths
from pipeline.artifacts import write_json
from pipeline.lineage import Code
from pipeline.lineage_dvc import Graph
from pipeline.tracking_session import Session, has_ended
from pipeline.tracking_store import Connection, public

PARAM_LIMIT = 6000
"""Characters of a param that MLflow takes; source/params.yaml holds all of them."""


@dataclass(frozen=True)
class Origin:
    """Where a run comes from."""

    session: Session
    graph: Graph
    code: Code
    environment: Mapping[str, Any]

    @cached_property
    def patch_digest(self) -> str:
        """SHA-256 of the patch; empty where the commit says it all."""
        return hashlib.sha256(self.code.patch).hexdigest() if self.code.patch else ""

    @cached_property
    def tags(self) -> dict[str, str]:
        """The tags that a stage's run and its pipeline's share."""
        code, env = self.code, os.environ
        dirty = str(code.dirty).lower() if code.commit else None
        found = {
            "pipeline.session": self.session.name,
            "mlflow.user": _user(),
            "mlflow.source.git.commit": code.commit,
            "mlflow.source.git.branch": code.branch,
            "mlflow.source.git.repoURL": public(code.remote) if code.remote else None,
            "mlflow.source.git.dirty": dirty,
            "source.dirty": dirty,  # the UI has no columns for tags called mlflow.…
            "source.patch_sha256": self.patch_digest,
            "source.left_out": code.left_out,
            "env.sha256": lineage.environment_digest(self.environment),
            "dvc.exp.name": env.get("DVC_EXP_NAME"),
            "dvc.exp.baseline": env.get("DVC_EXP_BASELINE_REV"),
            "ci.run_url": _ci_url(),
        }
        return {key: value for key, value in found.items() if value}

    def title(self, verb: str) -> str:
        """A name that people can tell apart: the experiment's, or commit, state and time."""
        commit = (self.code.commit or "")[:7] + ("+dirty" if self.code.dirty else "")
        now = f"{datetime.now():%H:%M}"
        return os.environ.get("DVC_EXP_NAME") or " ".join(filter(None, [verb, commit, now]))


def read_origin(session: Session) -> Origin:
    """Look at the work tree, DVC's files and the installed packages."""
    graph = lineage_dvc.read_graph()
    code = lineage.read_code(outputs=graph.outs, data=graph.sources)
    return Origin(session, graph, code, lineage.environment())


def _user() -> str | None:
    with suppress(KeyError, OSError, ImportError):  # a container's user may have no name
        return getpass.getuser()
    return None


def _ci_url() -> str | None:
    """The page of the CI job that this runs in."""
    env = os.environ
    if "GITHUB_RUN_ID" in env and "GITHUB_REPOSITORY" in env:
        server = env.get("GITHUB_SERVER_URL", "https://github.com")
        return public(f"{server}/{env['GITHUB_REPOSITORY']}/actions/runs/{env['GITHUB_RUN_ID']}")
    url = env.get("CI_RUN_URL") or env.get("CI_JOB_URL")
    return public(url) if url else None


@dataclass(frozen=True)
class PipelineRun:
    """The run of an execution as a whole; `fresh`: this process made it."""

    run: str
    fresh: bool
    patch_digest: str


def pipeline_run(connection: Connection, origin: Origin, *, verb: str) -> PipelineRun:
    """The run of this execution, made where there is none yet (call it under the store's lock).

    The start of an execution is also when runs that a power cut or SIGKILL left RUNNING are closed.
    """
    client, session = connection.client, origin.session.name
    found = search(connection, f"tags.`pipeline.session` = '{session}'", role="pipeline")
    if found:
        tags = found[0].data.tags
        return PipelineRun(found[0].info.run_id, False, tags.get("source.patch_sha256", ""))
    for left in search(connection, "attributes.status = 'RUNNING'"):
        if has_ended(left.data.tags.get("pipeline.session", "")):
            client.set_tag(left.info.run_id, "pipeline.reaped", "true")
            client.set_terminated(left.info.run_id, "KILLED")
    own = {"pipeline.role": "pipeline", "mlflow.source.name": "dvc.yaml"}
    tags = origin.tags | own | {"mlflow.source.type": "PROJECT"}
    made = client.create_run(connection.experiment, tags=tags, run_name=origin.title(verb))
    return PipelineRun(made.info.run_id, True, origin.patch_digest)


def search(connection: Connection, condition: str, *, role: str | None = None) -> list[Any]:
    """The newest 200 runs of the experiment that a condition holds for."""
    wanted = [condition] if role is None else [condition, f"tags.`pipeline.role` = '{role}'"]
    runs = connection.client.search_runs(
        [connection.experiment], filter_string=" and ".join(wanted), max_results=200
    )
    return list(runs)


def write_sources(folder: Path, origin: Origin) -> None:
    """What it takes to rebuild the work tree: patch, params, the graph, the environment."""
    folder.mkdir(parents=True, exist_ok=True)
    if origin.code.patch:
        (folder / "uncommitted.patch").write_bytes(origin.code.patch)
    for file in [paths.PARAMS, *lineage_dvc.dvc_files()]:
        copy_file(file, folder)
    write_json(folder / "environment.json", origin.environment)


def copy_file(file: Path, folder: Path) -> None:
    """Copy a file of the work tree, where it is there, to the same place below `folder`."""
    if file.is_file():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / file)


def flat(values: Mapping[str, Any], *, joint: str, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by their joined keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, joint=joint, prefix=f"{prefix}{key}{joint}")
        else:
            found[f"{prefix}{key}"] = value
    return found


def metric_name(path: str) -> str:
    """`path` as MLflow takes it: letters, digits, _ - . : and spaces, no part empty or all dots."""
    parts = [re.sub(r"[^\w\-. :]", "_", part) for part in path.split("/")]
    return "/".join(part if part.strip(".") else f"_{part[1:]}" for part in parts)[:250]


def param_text(value: Any) -> str:
    """A param as params.yaml spells it (true, null, [a, b]), cut to what MLflow takes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= PARAM_LIMIT else text[: PARAM_LIMIT - 1] + "…"
