"""What made the pipeline run: what dvc.lock holds otherwise than before, in a line.

Reading dvc.lock costs nothing where it did not change, and `dvc status` a second and more. So DVC
is asked only where a command failed: of a stage that did not end dvc.lock knows nothing.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import paths
from pipeline.errors import DataError
from pipeline.lineage_dvc import CODE_FOLDERS, dvc_files, overlap
from pipeline.lineage_secrets import redact
from pipeline.registry.processes import differing, status
from pipeline.retraining.commands import CommandError
from pipeline.retraining.week import Week

SHOWN = 4
"""Names of a kind in the line."""

Stages = Mapping[str, Mapping[str, Any]]


@dataclass
class Changes:
    """Names of what changed, by kind: `params` by key, the other files and folders by path.

    `made` is what stages wrote for others; `first` are stages that never ran before.
    """

    params: set[str] = field(default_factory=set)
    code: set[str] = field(default_factory=set)
    base: set[str] = field(default_factory=set)
    data: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    first: set[str] = field(default_factory=set)

    def add(self, path: str, *, base: str, outs: Iterable[str]) -> None:
        """A dependency that changed; `base` is the base model, `outs` what stages write."""
        name = posixpath.normpath(path)
        if any(overlap(name, out) for out in outs):
            self.made.add(name)
        elif overlap(name, base) or overlap(name, paths.HUB.as_posix()):
            self.base.add(name)
        elif name.endswith(".py") or name.split("/")[0] in CODE_FOLDERS:
            self.code.add(name)
        else:
            self.data.add(name)

    @property
    def line(self) -> str:
        """In a line; what stages made counts only where nothing else changed."""
        kinds = {
            "params": self.params,
            "code": self.code,
            "base model": self.base,
            "data": self.data,
            "never run before:": self.first,
        }
        told = [f"{kind} {_some(names)}" for kind, names in kinds.items() if names]
        return "; ".join(told) or _some(self.made)


@contextmanager
def noted(root: Path, week: Week, *, pretrained: str) -> Iterator[None]:
    """Tell the week what has changed for the stages that run meanwhile, also where one fails.

    `pretrained` is model.pretrained.
    """
    base = posixpath.normpath(f"{paths.HUB}/{pretrained}")
    before = _texts(root)
    try:
        yield
    except CommandError:
        found = between(before, _texts(root), base=base)
        with suppress(DataError):
            add_status(found, status(root), base=base, outs=_outs(_stages(_texts(root))))
        week.changed = redact(found.line)
        raise
    week.changed = redact(between(before, _texts(root), base=base).line)


def between(before: Sequence[str], after: Sequence[str], *, base: str) -> Changes:
    """What stages ran with, by the texts of all dvc.lock files before and after."""
    found = Changes()
    if before == after:
        return found
    old, new = _stages(before), _stages(after)
    outs = _outs(new)
    for name, stage in new.items():
        known = old.get(name)
        if known is None:
            found.first.add(name)
        elif known != stage:
            params = [_leaves(one.get("params")) for one in (known, stage)]
            found.params |= {key for key, _ in params[0] ^ params[1]}
            deps = [{(d["path"], d.get("md5")) for d in s.get("deps", ())} for s in (known, stage)]
            for path in {path for path, _ in deps[0] ^ deps[1]}:
                found.add(path, base=base, outs=outs)
            if known.get("cmd") != stage.get("cmd"):
                found.code.add(f"the command of {name}")
    return found


def add_status(found: Changes, told: Mapping[str, Any], *, base: str, outs: Iterable[str]) -> None:
    """Add what `dvc status` says of stages that did not run, with params by section."""
    for stage, path, how in differing(told):
        if path is None:
            found.code.add(f"the command of {stage}")
        elif isinstance(how, dict):
            found.params |= set(how)
        else:
            found.add(path, base=base, outs=outs)


def _texts(root: Path) -> list[str]:
    """Of all dvc.lock files."""
    files = [(root / file).with_suffix(".lock") for file in dvc_files(root)]
    return [file.read_text(encoding="utf-8") for file in files if file.is_file()]


def _stages(texts: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The stages that count: `check` depends on the whole of params.yaml."""
    yaml = YAML(typ="safe", pure=True)
    files = [(yaml.load(text) or {}).get("stages") or {} for text in texts]
    return {name: stage for file in files for name, stage in file.items() if name != "check"}


def _outs(stages: Stages) -> list[str]:
    return [posixpath.normpath(o["path"]) for s in stages.values() for o in s.get("outs", ())]


def _leaves(found: Any, key: str = "") -> set[tuple[str, str]]:
    """Keys such as finetune.lr with their values as text; the file that they are in is no part."""
    if not isinstance(found, dict):
        return {(key.split(".", 1)[1], repr(found))} if "." in key else set()
    inner = ((f"{key}.{name}" if key else "*", value) for name, value in found.items())
    return {leaf for name, value in inner for leaf in _leaves(value, name)}


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"{', '.join(listed[:SHOWN])}{more}"
