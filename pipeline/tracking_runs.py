"""The runs that a stage belongs to: what they say of their origin, and the pipeline's run.

CLIPTUNE_PATCH    off: what the work tree holds beyond its commit, and commits beyond the remote's,
                  are not stored with a run
"""

import getpass
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import lineage, lineage_dvc, lineage_gaps, paths
from pipeline.artifacts import read_json, write_json
from pipeline.lineage import Code
from pipeline.lineage_dvc import Graph
from pipeline.lineage_secrets import kinds, redact, redacted
from pipeline.tracking_session import Session, has_ended
from pipeline.tracking_store import Connection, public

PARAM_LIMIT = 6000
"""Characters of a param that MLflow takes; source/params.yaml holds all of them."""

SPOOLED = "spool.run_id"
"""The tag with the id that a run had in the spool."""


@dataclass(frozen=True)
class Origin:
    """Where a run comes from.

    Attributes:
        gaps: what it takes to make the run again, and nobody keeps.
        remote: whether DVC has a place to push data to.
    """

    session: Session
    graph: Graph
    code: Code
    environment: Mapping[str, Any]
    gaps: tuple[str, ...] = ()
    remote: bool = True

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
        kept = {key: redact(value) for key, value in found.items() if value}
        return kept | lineage_gaps.tags(self.gaps, remote=self.remote)

    def inputs(self, stage: str) -> dict[str, str | None]:
        """The data of a stage and its hash; None: DVC has not hashed it yet (record adds it)."""
        here = self.graph.find(stage)
        return self.graph.inputs(here) if here else {}

    def outs(self, stage: str) -> tuple[str, ...]:
        """What a stage writes, beside its receipt."""
        here = self.graph.find(stage)
        return (
            tuple(out for out in here.outs if out != str(paths.receipt_file(stage))) if here else ()
        )

    def title(self, verb: str) -> str:
        """A name that people can tell apart: the experiment's, or commit, state and time."""
        return redact(os.environ.get("DVC_EXP_NAME") or self._dated(verb))

    def stage_title(self, stage: str) -> str:
        """Likewise of a stage's run, which also stands in tables and legends without its parent."""
        experiment = os.environ.get("DVC_EXP_NAME")
        return redact(f"{stage} {experiment}") if experiment else self._dated(stage)

    def _dated(self, verb: str) -> str:
        commit = (self.code.commit or "")[:7] + ("+dirty" if self.code.dirty else "")
        now = f"{datetime.now():%H:%M}"
        return " ".join(filter(None, [verb, commit, now]))


def read_origin(session: Session) -> Origin:
    """Look at the work tree, DVC's files and the installed packages."""
    graph = lineage_dvc.read_graph()
    code = lineage.read_code(
        outputs=[*graph.outs, paths.RETRAINED.as_posix()], data=graph.sources, patched=_patched()
    )
    code = _without(code, [f"{file} ({why})" for file in _copied() if (why := _secret_in(file))])
    return Origin(
        session,
        graph,
        code,
        lineage.environment(),
        gaps=tuple(lineage_gaps.found(code, graph)),
        remote=lineage_gaps.has_remote(lineage_gaps.dvc_folders()),
    )


def _patched() -> bool:
    return os.environ.get("CLIPTUNE_PATCH", "").lower() not in {"off", "no", "false", "0"}


def _copied() -> list[Path]:
    """What source/ holds copies of."""
    files = lineage_dvc.dvc_files()
    return [paths.PARAMS, *files, *(file.with_suffix(".lock") for file in files)]


def _without(code: Code, uncopied: list[str]) -> Code:
    """`code`, which says that source/ has no copies of these files."""
    if not uncopied:
        return code
    note = f"not in source/, for it holds a credential: {lineage.listed(uncopied)}"
    known = tuple(dict.fromkeys([*code.secrets, *uncopied]))
    return replace(code, left_out="; ".join(filter(None, [code.left_out, note])), secrets=known)


def _secret_in(file: Path) -> str:
    """What of a file must not be shown; empty: nothing, or there is no such file."""
    if not file.is_file():
        return ""
    text = file.read_text(encoding="utf-8", errors="replace")
    return ", ".join(kinds(text)) or ("a credential" if redact(text) != text else "")


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
    """The run of an execution as a whole; `fresh`: this process made it.

    `gaps`: what kept it from being made again when it began.
    """

    run: str
    fresh: bool
    patch_digest: str
    gaps: tuple[str, ...] = ()


def pipeline_run(connection: Connection, origin: Origin, *, verb: str) -> PipelineRun:
    """The run of this execution, made where there is none yet (call it under the store's lock).

    The start of an execution is also when runs that a power cut or SIGKILL left RUNNING are closed.
    """
    client, session = connection.client, origin.session.name
    found = search(connection, f"tags.`pipeline.session` = '{session}'", role="pipeline")
    if found:
        tags = found[0].data.tags
        digest, gaps = tags.get("source.patch_sha256", ""), lineage_gaps.of_tags(tags)
        return PipelineRun(found[0].info.run_id, False, digest, gaps)
    for left in search(connection, "attributes.status = 'RUNNING'"):
        if has_ended(left.data.tags.get("pipeline.session", "")):
            client.set_tag(left.info.run_id, "pipeline.reaped", "true")
            client.set_terminated(left.info.run_id, "KILLED")
    own = {"pipeline.role": "pipeline", "mlflow.source.name": "dvc.yaml"}
    tags = origin.tags | own | {"mlflow.source.type": "PROJECT"}
    made = client.create_run(connection.experiment, tags=tags, run_name=origin.title(verb))
    return PipelineRun(made.info.run_id, True, origin.patch_digest, origin.gaps)


def place(connection: Connection, run: str) -> str:
    """Where people find a run."""
    uri = connection.public_uri
    if uri.startswith("http"):
        return f"{uri.rstrip('/')}/#/experiments/{connection.experiment}/runs/{run}"
    if connection.spooled:
        return f"run {run}, kept here until `cliptune sync` sends it"
    return f"run {run}; look at it with `make ui`"


def search(connection: Connection, condition: str, *, role: str | None = None) -> list[Any]:
    """The newest 200 runs of the experiment that a condition holds for."""
    wanted = [condition] if role is None else [condition, f"tags.`pipeline.role` = '{role}'"]
    runs = connection.client.search_runs(
        [connection.experiment], filter_string=" and ".join(wanted), max_results=200
    )
    return list(runs)


def sent_as(connection: Connection, run: str) -> str | None:
    """The id that a run of the spool has in the store since `cliptune sync`; None: it has none."""
    found = search(connection, f"tags.`{SPOOLED}` = '{run}'")
    return str(found[0].info.run_id) if found else None


def present(connection: Connection, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """A receipt as of now: its run may have been sent from the spool since it was written."""
    if receipt["spooled"] and not connection.spooled:
        sent = sent_as(connection, receipt["run_id"])
        if sent is not None:
            where = {"tracking_uri": connection.public_uri, "experiment_id": connection.experiment}
            return {**receipt, **where, "run_id": sent, "spooled": False}
    return dict(receipt)


def upstream(connection: Connection, origin: Origin, stage: str) -> dict[str, dict[str, Any]]:
    """The receipts, as of now, of the stages whose outputs this one reads."""
    here = origin.graph.find(stage)
    names = origin.graph.upstream(here) if here else []
    files = {name: paths.receipt_file(name) for name in names}
    return {
        name: present(connection, read_json(file)) for name, file in files.items() if file.is_file()
    }


def write_sources(folder: Path, origin: Origin) -> None:
    """What it takes to rebuild the work tree: commits, patch, params, the graph, the environment.

    Files that are not there, for they hold a credential, are told on stderr.
    """
    if origin.code.secrets:
        files = lineage.listed(list(origin.code.secrets))
        sys.stderr.write(f"not recorded with the run, for it holds a credential: {files}\n")
    folder.mkdir(parents=True, exist_ok=True)
    if origin.code.patch:
        (folder / "uncommitted.patch").write_bytes(origin.code.patch)
    if _patched() and (commits := lineage.unpublished()):
        (folder / "unpublished.bundle").write_bytes(commits)
    for file in [paths.PARAMS, *lineage_dvc.dvc_files()]:
        copy_file(file, folder)
    write_json(folder / "environment.json", origin.environment)


def copy_file(file: Path, folder: Path) -> None:
    """Copy a file of the work tree to the same place below `folder`.

    Nothing where it is not there, and where it holds a credential: a changed copy would lie.
    """
    if file.is_file() and not _secret_in(file):
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
    """A param as params.yaml spells it (true, null, [a, b]), cut to what MLflow takes.

    Without credentials, which a cut could make unknowable.
    """
    value = redacted(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= PARAM_LIMIT else text[: PARAM_LIMIT - 1] + "…"
