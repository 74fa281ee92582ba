"""What is wrong in params.yaml, a line a key: the key, its value, what to do."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from pipeline.sections import Section


def told(path: Path, error: ValidationError, kind: type[Section]) -> list[str]:
    """A line for each key of `path` that is wrong, in the order of `error`; `kind`: the whole file.

    A key that may be one of several types fails once for each: these make one line.
    """
    by_key: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for detail in error.errors():
        key = tuple(_key(detail["loc"], kind))
        by_key.setdefault(key, []).append(detail)
    return [_line(path, key, details, kind) for key, details in by_key.items()]


def fields(kind: type[Section]) -> dict[str, Any]:
    """The keys that `kind` holds, as params.yaml names them, and their types."""
    return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}


def _line(
    path: Path, key: Sequence[str], details: Sequence[Mapping[str, Any]], kind: type[Section]
) -> str:
    first, name = details[0], ".".join(key)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key[-1], _siblings(key[:-1], kind), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "remove it or compare with the file in git"
        return f"{path}: unknown key `{name}`: {hint}"
    if first["type"] == "missing":
        return f"{path}: the key `{name}` is missing: add it (git shows its default)"
    if first["type"] == "value_error":
        return f"{path}: `{name}`: {first['ctx']['error']}"
    reasons = [detail["msg"][0].lower() + detail["msg"][1:] for detail in details]
    return f"{path}: `{name}` is {first['input']!r}: {', or '.join(dict.fromkeys(reasons))}"


def _key(location: Sequence[int | str], kind: Any) -> Iterator[str]:
    """The parts of `location` in the file: pydantic adds which type of several failed."""
    for part in location:
        kind = _bare(kind)
        if isinstance(kind, tuple):
            kind = None
            continue
        yield str(part)
        kind = _below(kind, part)


def _bare(kind: Any) -> Any:
    """A type without Annotated and None; a tuple of types where several are left."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        return _bare(members[0]) if len(members) == 1 else tuple(members)
    return kind


def _below(kind: Any, part: int | str) -> Any:
    """The type of what `part` names in a section, a mapping or a list; None: not known."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return fields(kind).get(str(part))
    return get_args(kind)[-1] if get_origin(kind) in (dict, list) else None


def _siblings(parents: Sequence[str], kind: Any) -> list[str]:
    """The keys known where `parents` leads."""
    for parent in parents:
        kind = _bare(_below(kind, parent))
    return list(fields(kind)) if isinstance(kind, type) and issubclass(kind, Section) else []
