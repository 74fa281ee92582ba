"""DVC's side of a run's origin: which stage makes what, and DVC's hashes of it.

Read from dvc.yaml and dvc.lock as files (asking DVC itself takes a second and its locks). Paths
are normalised and start from the work tree, whatever folder a dvc.yaml lies in.
"""

import hashlib
import os
import posixpath
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import paths
from pipeline.lineage_secrets import redact

CODE_FOLDERS = ("pipeline", "stages")


@dataclass(frozen=True)
class DvcStage:
    """A stage, and by path the hashes that its dvc.lock holds: those of its last finished run."""

    name: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    dep_digests: Mapping[str, str]
    out_digests: Mapping[str, str]

    @property
    def data(self) -> list[str]:
        """The dependencies that are no code."""
        return [dep for dep in self.deps if dep.split("/")[0] not in CODE_FOLDERS]


@dataclass(frozen=True)
class Graph:
    """All stages by address (`clean`, below the root `samples/dvc.yaml:make`), and added data."""

    stages: Mapping[str, DvcStage]
    added: Mapping[str, str]

    def find(self, name: str) -> DvcStage | None:
        """The stage called `name`, the root's first."""
        below = (stage for address, stage in self.stages.items() if address.endswith(f":{name}"))
        return self.stages[name] if name in self.stages else next(below, None)

    @property
    def outs(self) -> list[str]:
        """What the stages write."""
        return [out for stage in self.stages.values() for out in stage.outs]

    @property
    def sources(self) -> list[str]:
        """The data that stages read and none writes."""
        read = {dep for stage in self.stages.values() for dep in stage.data}
        return sorted(dep for dep in read if not any(overlap(dep, out) for out in self.outs))

    def inputs(self, stage: DvcStage) -> dict[str, str | None]:
        """The data that a stage reads with DVC's hash; None where no stage has written it.

        A URI is named without its credentials.

        DVC hashes a source when the stage has run: the lock's hash may be that of an older state.
        """
        known = dict(self.added)
        for other in self.stages.values():
            known |= other.out_digests
        return {redact(dep): known.get(dep) for dep in stage.data}

    def upstream(self, stage: DvcStage) -> list[str]:
        """The names of the stages whose outputs a stage reads."""
        makers = (
            other.name
            for other in self.stages.values()
            if other != stage and any(overlap(dep, out) for dep in stage.data for out in other.outs)
        )
        return sorted(makers)

    def result_digest(self) -> str:
        """SHA-256 of the hashes of the root's outputs: equal for equal results.

        Receipts do not count: they name runs.
        """
        own = [stage for address, stage in self.stages.items() if ":" not in address]
        found = {path: digest for stage in own for path, digest in stage.out_digests.items()}
        kept = {p: digest for p, digest in found.items() if not overlap(p, paths.RUNS.as_posix())}
        lines = [f"{path}\0{digest}\n" for path, digest in sorted(kept.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def overlap(one: str, other: str) -> bool:
    """Whether two paths are equal or one lies below the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def dvc_files(tree: Path = Path()) -> list[Path]:
    """The root's dvc.yaml and every other one that git does not ignore, as paths from the root."""
    found = {paths.DVC_YAML, *_in_git(tree, "dvc.yaml")}
    return sorted(path for path in found if (tree / path).is_file())


def _in_git(tree: Path, name: str) -> list[Path]:
    """Files of that name, in any folder, which git does not ignore; none without git."""
    command = ["git", "ls-files", "-coz", "--exclude-standard", "--", f":(glob)**/{name}"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, cwd=tree).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [Path(os.fsdecode(name)) for name in listed.split(b"\0") if name]


def read_graph(tree: Path = Path(), files: Iterable[Path] | None = None) -> Graph:
    """The graph and hashes of a work tree as its files have them now.

    `files`: its dvc.yaml files, as paths from there; None: those that git does not ignore.
    """
    stages: dict[str, DvcStage] = {}
    for file in dvc_files(tree) if files is None else files:
        stages |= _read_stages(tree, file)
    added: dict[str, str] = {}
    known = [tree / file for file in _in_git(tree, "*.dvc")]
    for file in {*known, *tree.glob("*.dvc"), *(tree / "data").glob("*.dvc")}:
        if file.is_file():
            base = file.parent.relative_to(tree).as_posix()
            added |= _digests(_yaml(file).get("outs"), base)
    return Graph(stages, added)


def _read_stages(tree: Path, file: Path) -> dict[str, DvcStage]:
    """The stages of one dvc.yaml, with what the dvc.lock beside it knows of them."""
    content = _yaml(tree / file)
    context = _context(tree / file, content)
    lock = tree / file.with_suffix(".lock")
    locked = (_yaml(lock).get("stages") if lock.is_file() else None) or {}
    stages = {}
    for name, entry in (content.get("stages") or {}).items():
        base = _join(file.parent.as_posix(), entry.get("wdir") or ".")
        outs = [out for kind in ("outs", "metrics", "plots") for out in entry.get(kind) or []]
        hashes = locked.get(name) or {}
        stages[name if file == paths.DVC_YAML else f"{file.as_posix()}:{name}"] = DvcStage(
            name=name,
            deps=tuple(_resolve(dep, base, context) for dep in entry.get("deps") or []),
            outs=tuple(_resolve(out, base, context) for out in outs),
            dep_digests=_digests(hashes.get("deps"), base),
            out_digests=_digests(hashes.get("outs"), base),
        )
    return stages


def _digests(entries: list[dict[str, Any]] | None, base: str) -> dict[str, str]:
    return {_join(base, entry["path"]): entry["md5"] for entry in entries or [] if "md5" in entry}


def _yaml(file: Path) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")) or {}


def _join(base: str, path: str) -> str:
    return path if "://" in path else posixpath.normpath(posixpath.join(base, path))


def _context(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What `${…}` in a dvc.yaml can name: params.yaml beside it, and its `vars`."""
    context: dict[str, Any] = {}
    for source in [paths.PARAMS.name, *(content.get("vars") or [])]:
        if isinstance(source, dict):
            context |= source
        elif (path := file.parent / source.partition(":")[0]).is_file():
            context |= _yaml(path)
    return context


def _resolve(entry: str | dict[str, Any], base: str, context: dict[str, Any]) -> str:
    """A path of dvc.yaml (`path` or `path: {options}`), `${…}` replaced; unknown ones stay."""

    def value(match: re.Match[str]) -> str:
        found: Any = context
        for key in match.group(1).split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return match.group(0) if found is None else str(found)

    path = entry if isinstance(entry, str) else next(iter(entry))
    return _join(base, re.sub(r"\$\{\s*([^}\s]+)\s*\}", value, path))
