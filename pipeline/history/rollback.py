"""`cliptune rollback`: the champion before this one serves again."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import TrackingError
from pipeline.history.registry import (
    BEFORE,
    CHAMPION,
    LONGEST,
    PREVIOUS,
    ROLLED_BACK,
    ROLLED_BACK_WHY,
    Registry,
    answering,
    number,
)
from pipeline.lineage_secrets import redact
from pipeline.tracking_store import reach

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def rollback(root: Path, name: str, *, why: str = "") -> tuple[str, str]:
    """Give the alias `champion` back to the version before it; the two versions, old and new.

    The version that goes is not promoted again, and keeps `why` in a line. Raises TrackingError
    where there is none before.
    """
    connection, _ = reach(root, lambda _: None)
    with answering(connection):
        return _roll_back(Registry(connection, name), in_a_line(why))


def in_a_line(text: str) -> str:
    """What a person wrote as a tag holds it: without credentials and what steers a terminal."""
    plain = "".join(c if c.isprintable() else " " for c in redact(text))
    return " ".join(plain.split())[:LONGEST]


def _roll_back(registry: Registry, why: str) -> tuple[str, str]:
    name = registry.name
    champion = registry.by_alias(CHAMPION)
    old = number(champion)
    if champion is None or old is None:
        raise TrackingError(f"{name!r} has no champion in {registry.connection.public_uri}")
    before = _before(registry, champion)
    if before is None:
        raise TrackingError(f"version {old} of {name!r} is the first champion: "
                            "there is none before it to go back to")  # fmt: skip
    earlier = number(_before(registry, before))
    with registry.alone() as still:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        registry.tag(old, {ROLLED_BACK_WHY: why, ROLLED_BACK: when})
        if earlier:
            registry.alias(PREVIOUS, earlier)
        else:
            registry.forget(PREVIOUS)
        # Last: after a death before it the same command does the same, and not one version more.
        still()
        registry.alias(CHAMPION, str(before.version))
    return old, str(before.version)


def _before(registry: Registry, version: "ModelVersion") -> "ModelVersion | None":
    """The champion before a version that was not itself rolled back; None: there was none.

    Raises TrackingError where it was deleted.
    """
    passed = {number(version)}
    while (name := version.tags.get(BEFORE)) and name not in passed:
        found = registry.find(name)
        if found is None:
            raise TrackingError(
                f"version {name} of {registry.name!r}, the champion before version "
                f"{version.version}, is not in the registry any more: give the alias "
                f"{CHAMPION!r} to another one in MLflow"
            )
        if not found.tags.get(ROLLED_BACK):
            return found
        passed.add(name)
        version = found
    return None
