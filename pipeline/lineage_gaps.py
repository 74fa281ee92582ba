"""Whether a run can be made again from what it records, and else what is missing.

Reads git's index and DVC's settings as files; runs no DVC.
"""

import configparser
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pipeline.lineage import DVC_FILES, Code
from pipeline.lineage_dvc import Graph, overlap
from pipeline.lineage_secrets import redact

NO_REMOTE = "DVC has no default remote, so its data are here alone: `dvc remote add -d NAME URL`"
LITTER = (*DVC_FILES, ":(glob)**/__pycache__/**", ":(glob)**/.ipynb_checkpoints/**")
"""What lies in a folder of data and is none."""


def found(code: Code, graph: Graph) -> list[str]:
    """What nobody could rebuild from commit, patch and DVC, each as a sentence."""
    if code.commit is None:
        return ["there is no git commit: `git init`, `git add .`, `git commit`"]
    gaps = [code.left_out] if code.left_out else []
    missing = [f"{path} {why}" for path in graph.sources if (why := _unkept(path, graph))]
    return gaps + [redact(gap) for gap in missing]


def _unkept(source: str, graph: Graph) -> str | None:
    """Why nobody keeps a source; None: git or DVC keeps all of it."""
    covered = [path for path in graph.added if overlap(path, source)]
    if any(source == path or source.startswith(f"{path}/") for path in covered):
        return None
    if source.startswith(("../", "/")) or "://" in source:
        return "lies outside the work tree, where neither git nor DVC keeps it"
    left_aside = [f":(exclude,literal){path}" for path in covered]
    left_aside += [spec.replace(":(glob)", ":(exclude,glob)") for spec in LITTER]
    command = ["git", "ls-files", "--others", "-z", "--", f":(literal){source}", *left_aside]
    listed = subprocess.run(command, capture_output=True, check=False).stdout
    return f"is neither in git nor in DVC: `dvc add {source}`" if listed else None


def has_remote(folders: Iterable[Path]) -> bool:
    """Whether the DVC settings in one of these `.dvc` folders name a remote by default."""
    return bool(remote(folders))


def remote(folders: Iterable[Path]) -> str:
    """The default remote of these settings, its name and address; empty: there is none."""
    files = [folder / name for folder in folders for name in ("config", "config.local")]
    config = configparser.ConfigParser(interpolation=None, strict=False)
    for file in files:
        try:
            config.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # DVC itself will say so
    name = config.get("core", "remote", fallback="")
    address = config.get(f"'remote \"{name}\"'", "url", fallback="")
    return redact(f"{name} ({address})" if address else name)


def tags(gaps: Iterable[str], *, remote: bool) -> dict[str, str]:
    """`reproducible` and the reasons, as a run's tags."""
    missing = list(dict.fromkeys(gaps))
    why = [*missing, *([] if remote else [NO_REMOTE])]
    verdict = "no" if missing else "yes" if remote else "only here"
    return {"reproducible": verdict} | ({"reproducible.why": "; ".join(why)} if why else {})


def of_tags(told: dict[str, str]) -> tuple[str, ...]:
    """The gaps that a run's tags tell."""
    parts = told.get("reproducible.why", "").split("; ")
    return tuple(part for part in parts if part not in ("", NO_REMOTE))


def dvc_folders() -> list[Path]:
    """Of the work tree, and of the main one where DVC works in a temporary copy."""
    main = os.environ.get("DVC_ROOT")
    return [Path(".dvc"), *([Path(main, ".dvc")] if main else [])]
