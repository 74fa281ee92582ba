"""Folders that people fill and DVC watches: added where they changed, and never backwards.

`dvc add` takes a folder as it lies there. Where git has brought another version of its .dvc file,
made elsewhere, and the folder is still that of before, it would undo what others have added.
"""

import re
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import paths
from pipeline.artifacts import read_json, write_json
from pipeline.errors import DataError
from pipeline.registry import trees
from pipeline.retraining.commands import dvc, git, required
from pipeline.retraining.tree import watched

MD5 = re.compile(r"\bmd5: (\S+)")
SEEN = paths.RETRAINING / "folders.json"
"""By .dvc file: the hash that the commit had (`base`) when its folder was added here (`added`)."""


def added(root: Path) -> None:
    """Add what changed in the folders that DVC watches; what git has brought comes first.

    Raises DataError where a folder was changed both here and elsewhere.
    """
    places = watched(root)
    file = root / SEEN
    seen: dict[str, dict[str, str]] = read_json(file) if file.is_file() else {}
    bases = {name: digest(git(root, "show", f"HEAD:./{name}", check=False)) for name in places}
    for name, place in places.items():
        if name not in seen:
            if _is_old(root, name, base=bases[name]):
                _fetch(root, name, place)
        elif bases[name] not in {"", *seen[name].values()}:
            _catch_up(root, name, place, known=seen[name], base=bases[name])
    if not places:
        return
    required(dvc(root, "add", *places.values()), "looking at the data")
    now = {
        name: {"base": bases[name], "added": digest((root / name).read_text(encoding="utf-8"))}
        for name in places
    }
    write_json(file, now)


def digest(text: str) -> str:
    """DVC's hash of the data in the text of a .dvc file; empty: it names none."""
    content: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text) or {} if text else {}
    return str(next((out.get("md5", "") for out in content.get("outs") or ()), ""))


def _catch_up(root: Path, name: str, place: str, *, known: Mapping[str, str], base: str) -> None:
    """Bring a folder that nobody changed here to the version of the commit."""
    here = _content(root, name)
    if here == base or _includes(root, place, base):
        return
    if here != known["base"]:
        raise DataError(
            f"{place} was changed here, and {name} elsewhere: `dvc add` would undo the others' "
            f"change. Move {place} away, `dvc pull {name}`, copy into it what is new here, and run "
            "this again"
        )
    _fetch(root, name, place)


def _fetch(root: Path, name: str, place: str) -> None:
    git(root, "checkout", "--quiet", "HEAD", "--", name)
    required(dvc(root, "pull", name), f"fetching what others added to {place}")


def _is_old(root: Path, name: str, *, base: str) -> bool:
    """Whether a folder that was never added here is still as an earlier commit had it.

    One that somebody took back on purpose is not: `dvc add` has written that into its .dvc file.
    """
    here = _content(root, name)
    if here in {base, digest((root / name).read_text(encoding="utf-8"))}:
        return False
    return here in MD5.findall(git(root, "log", "--format=", "--patch", "--", name))


def _includes(root: Path, place: str, base: str) -> bool:
    """Whether the folder holds every file of the commit's version as it is, whatever else it holds.

    That is so when somebody has brought the others' version and put what is new here beside it.
    """
    theirs = trees.cached(root, base, partly=True) if base.endswith(".dir") else None
    return bool(theirs) and all(
        (root / place / path).is_file()
        and md5((root / place / path).read_bytes(), usedforsecurity=False).hexdigest()
        == f"{cached.parent.name}{cached.name}"
        for path, cached in (theirs or {}).items()
    )


def _content(root: Path, name: str) -> str:
    """DVC's hash of the data of a .dvc file as they lie in the tree."""
    from dvc.repo import Repo  # noqa: PLC0415 - a second

    with Repo(str(root)) as repo:
        (stage,) = repo.stage.collect(str(root / name))
        return str(stage.outs[0].get_hash().value)
