"""Aliases and versions in a real registry of MLflow, where a caller may die between two calls."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import TrackingError
from pipeline.history import registry as registry_of
from pipeline.history.registry import BEFORE, CHAMPION, LOCK, PREVIOUS, Registry
from pipeline.tracking_store import Connection

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Connection:
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(uri, uri)
        experiment = client.create_experiment("x", (folder / "runs").as_uri())
    return Connection(client, experiment, uri, spooled=False)


@pytest.fixture
def made(
    store: Connection, request: pytest.FixtureRequest
) -> tuple[Registry, Callable[[str], str]]:
    """A model of the test's own, and what registers a bundle of it: the number of its version."""
    registry = Registry(store, request.node.name)
    run = store.client.create_run(store.experiment).info.run_id

    def register(digest: str) -> str:
        return str(registry.register(digest, run=run, tags={"a": "b"}).version)

    return registry, register


def named(registry: Registry, alias: str) -> str | None:
    found = registry.by_alias(alias)
    return None if found is None else str(found.version)


def test_a_bundle_is_registered_once(made: tuple[Registry, Callable[[str], str]]) -> None:
    registry, register = made
    assert registry.by_bundle("one") is None
    assert [register("one"), register("two"), register("one")] == ["1", "2", "1"]
    assert len(registry.connection.client.search_model_versions(f"name='{registry.name}'")) == 2
    assert registry.version("1").tags["a"] == "b"


def test_the_former_champion_stays_as_previous(made: tuple[Registry, Callable[[str], str]]) -> None:
    registry, register = made
    one, two, three = (register(name) for name in ("one", "two", "three"))
    registry.crown(one)
    assert (named(registry, CHAMPION), named(registry, PREVIOUS)) == (one, None)
    registry.crown(two)
    registry.crown(two)  # again, as after a death
    assert (named(registry, CHAMPION), named(registry, PREVIOUS)) == (two, one)
    registry.crown(three)
    assert (named(registry, CHAMPION), named(registry, PREVIOUS)) == (three, two)
    assert [registry.version(v).tags.get(BEFORE) for v in (one, two, three)] == [None, one, two]


def test_a_store_that_refuses_is_not_a_model_without_a_champion(
    made: tuple[Registry, Callable[[str], str]],
    store: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, register = made
    assert registry.by_alias(CHAMPION) is None  # there is no such model
    register("one")
    assert registry.by_alias(CHAMPION) is None  # nor such an alias
    assert registry.find("7") is None

    def refuses(*_: object) -> None:
        raise MlflowException("too many requests")

    monkeypatch.setattr(store.client, "get_model_version_by_alias", refuses)
    with pytest.raises(MlflowException, match="too many requests"):
        registry.by_alias(CHAMPION)


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_death_between_two_calls_leaves_a_champion_and_is_completed(
    made: tuple[Registry, Callable[[str], str]], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    registry, register = made
    one, two = register("one"), register("two")
    registry.crown(one)
    left = calls

    def dies(do: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            nonlocal left
            if left == 0:
                raise ConnectionError("the server has gone")
            left -= 1
            do(*arguments)

        return call

    with monkeypatch.context() as dying:
        dying.setattr(registry, "tag", dies(registry.tag))
        dying.setattr(registry, "alias", dies(registry.alias))
        with pytest.raises(ConnectionError):
            registry.crown(two)
    assert named(registry, CHAMPION) == one
    registry.crown(two)
    assert (named(registry, CHAMPION), named(registry, PREVIOUS)) == (two, one)


def test_of_two_promotions_at_once_one_goes_on(
    made: tuple[Registry, Callable[[str], str]],
    store: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the first waits for others to claim, a second does, having seen no claim before."""
    registry, register = made
    register("one")
    second = Registry(store, registry.name)
    went: list[str] = []

    def meanwhile(_: float) -> None:
        monkeypatch.setattr(registry_of.time, "sleep", lambda _: None)
        monkeypatch.setattr(second, "_lock", look_once(second._lock))
        with second.alone():
            went.append("second")

    monkeypatch.setattr(registry_of.time, "sleep", meanwhile)
    with pytest.raises(TrackingError, match="another promotion"), registry.alone():
        went.append("first")
    assert went == ["second"]
    with registry.alone():  # it was given back
        went.append("later")
    assert len(went) == 2


def test_a_claim_that_came_late_stops_the_one_before(
    made: tuple[Registry, Callable[[str], str]],
    store: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, register = made
    register("one")
    monkeypatch.setattr(registry_of, "SETTLE_S", 0.0)
    with registry.alone() as still:
        still()
        monkeypatch.setattr(
            second := Registry(store, registry.name), "_lock", look_once(second._lock)
        )
        with second.alone() as second_still:
            second_still()
            with pytest.raises(TrackingError, match="another promotion"):
                still()


def look_once(look: Callable[[], str]) -> Callable[[], str]:
    """Nobody holds it, as it was when the second looked; then as it is."""
    answers = [""]
    return lambda: answers.pop() if answers else look()


def test_a_claim_that_died_does_not_hold_for_ever(
    made: tuple[Registry, Callable[[str], str]],
    store: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, register = made
    register("one")
    monkeypatch.setattr(registry_of, "SETTLE_S", 0.0)
    store.client.set_registered_model_tag(registry.name, LOCK, "dead:1000")
    went = []
    with registry.alone():
        with pytest.raises(TrackingError, match="another promotion"), registry.alone():
            went.append("inner")
        went.append("outer")
    assert went == ["outer"]
    assert Path(store.uri.removeprefix("sqlite:///")).is_file()
