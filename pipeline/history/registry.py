"""MLflow's registry as promotion uses it: versions by their bundle, and three aliases.

`champion` serves, `challenger` was judged last, `previous` served before. MLflow sets one alias at
a time, so the order is such that a death between two calls leaves a champion, and the same command
ends what it began: `previous` first, then `champion`.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline.errors import TrackingError
from pipeline.history import claims
from pipeline.tracking_store import Connection, first_line

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
BUNDLE = "cliptune.bundle"
"""The tag with the hash of the bundle's files."""

KEY = "pipeline.key"
"""The tag with the set of stage runs that a version is of."""

VERDICT, WHY, AT = "promotion.verdict", "promotion.why", "promotion.at"
AGAINST, ASKED = "promotion.against", "promotion.asked"
"""Tags with the champion that a version was measured against (empty: there was none), and the hash
of the gates it had to pass.
"""

FIGURES = "promotion.figures"
"""The tag with the main figures of the last verdict as JSON."""

BEFORE = "champion.before"
"""The tag of a version with the one that was champion before it; empty: there was none."""

ROLLED_BACK, ROLLED_BACK_WHY = "champion.rolled_back", "champion.rolled_back_why"
"""Tags of a version that had to go: when, and what a person said of it (empty: nothing)."""

LONGEST = 4000
"""Characters of a tag's text."""

LOCK = "promotion.lock"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a model, a version or an alias that is not there, by whatever store."""

SETTLE_S = 1.0
"""Between the claim and the look at who made the last one: longer than a call to the store."""


class Registry:
    """The versions of one registered model."""

    def __init__(self, connection: Connection, name: str):
        """`name` need not be there yet."""
        self.connection = connection
        self._client = connection.client
        self.name = name

    def by_alias(self, alias: str) -> "ModelVersion | None":
        """The version that an alias names; None: none is named so.

        A store that refuses, or is away, is no answer, and raises.
        """
        with _none_where_absent(), _quiet():
            return self._client.get_model_version_by_alias(self.name, alias)
        return None

    def find(self, number: str) -> "ModelVersion | None":
        """A version by its number; None where it was deleted."""
        with _none_where_absent(), _quiet():
            return self._client.get_model_version(self.name, number)
        return None

    def by_bundle(self, digest: str) -> "ModelVersion | None":
        """The version of a bundle; the newest where several were registered."""
        return self._newest(BUNDLE, digest)

    def by_key(self, key: str) -> "ModelVersion | None":
        """The newest version of a set of stage runs, which `pipeline.key` names."""
        return self._newest(KEY, key)

    def _newest(self, tag: str, value: str) -> "ModelVersion | None":
        asked = f"name='{self.name}' and tags.`{tag}` = '{value}'"
        with _quiet():
            found = self._client.search_model_versions(asked, max_results=1000)
        newest = max((int(version.version) for version in found), default=None)
        return None if newest is None else self.version(str(newest))

    def version(self, number: str) -> "ModelVersion":
        """A version by its number."""
        with _quiet():
            return self._client.get_model_version(self.name, number)

    def tags(self, number: str) -> dict[str, str]:
        """The tags of a version by its number; none where it was deleted."""
        found = self.find(number)
        return {} if found is None else dict(found.tags)

    def register(self, digest: str, *, run: str, tags: Mapping[str, str]) -> "ModelVersion":
        """The version of a bundle, made where there is none."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        found = self.by_bundle(digest)
        if found is None:
            with _quiet():
                try:
                    self._client.create_registered_model(self.name)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                source = f"runs:/{run}/model"
                found = self._client.create_model_version(
                    self.name, source, run_id=run, tags={BUNDLE: digest, **tags}
                )
        return found

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, version, key, value)

    def alias(self, alias: str, version: str) -> None:
        """Let an alias name a version."""
        self._client.set_registered_model_alias(self.name, alias, version)

    def forget(self, alias: str) -> None:
        """Let an alias name nothing."""
        self._client.delete_registered_model_alias(self.name, alias)

    def crown(self, version: str) -> None:
        """Make a version the champion, and the one before `previous`; again does no harm."""
        former = number(self.by_alias(CHAMPION))
        if former is not None and former != version:
            self.tag(version, {BEFORE: former})
            self.alias(PREVIOUS, former)
        self.alias(CHAMPION, version)

    @contextmanager
    def alone(self) -> Iterator[Callable[[], None]]:
        """One promotion at a time, on whatever machine: the last to claim goes on, others stop.

        A claim whose process is gone stops nobody on the same machine, and elsewhere for a while.
        Raises TrackingError where another is at work. What is yielded asks again and raises it too,
        for right before the alias that counts: a claim may come late from a slow machine.
        """
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        own = claims.made()
        held = self._lock()
        if held and not claims.read(held).is_over():
            raise TrackingError(self._taken(held))
        try:
            self._client.set_registered_model_tag(self.name, LOCK, own)
        except MlflowException:  # of two in the same moment a database may refuse the second
            held = self._lock()
            if not held:
                raise
            raise TrackingError(self._taken(held)) from None
        time.sleep(SETTLE_S)

        def still() -> None:
            held = self._lock()
            if held != own:
                raise TrackingError(self._taken(held))

        still()
        try:
            yield still
        finally:
            with suppress(MlflowException):  # what was done is done, and a claim grows old
                if self._lock() == own:
                    self._client.delete_registered_model_tag(self.name, LOCK)

    def _lock(self) -> str:
        with _quiet():
            found: str = self._client.get_registered_model(self.name).tags.get(LOCK, "")
        return found

    def _taken(self, held: str) -> str:
        what = f"is under way ({claims.read(held)})" if held else "came between"
        return f"another promotion of {self.name!r} {what}: look what it did, then run this again"


@contextmanager
def answering(connection: Connection) -> Iterator[None]:
    """Raise TrackingError where the store refuses, or stops answering between two calls."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415 - MLflow's own

    try:
        yield
    except (MlflowException, RequestException) as error:
        raise TrackingError(
            f"MLflow at {connection.public_uri} did not do what was asked ({first_line(error)}): "
            "run the same again, it completes what was begun"
        ) from error


def rolled_back(version: "ModelVersion | None") -> str:
    """When a version was rolled back, and why; empty: it was not."""
    tags = version.tags if version else {}
    when, why = tags.get(ROLLED_BACK, ""), tags.get(ROLLED_BACK_WHY, "")
    return f"{when} ({why})" if when and why else when


def number(version: "ModelVersion | None") -> str | None:
    """A version's number as text: some stores of MLflow give an int."""
    return None if version is None else str(version.version)


@contextmanager
def _none_where_absent() -> Iterator[None]:
    """Pass over that something is not there, and nothing else."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - seconds; see tracking.py

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow warns of its own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
