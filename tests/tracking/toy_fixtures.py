"""The toy pipeline as a fixture, and as the work tree of the test's own process.

A plugin of the modules that use it, and no conftest.py: other tests import names from the one in
tests/, and Python knows only one module of that name.
"""

import os
from collections.abc import Iterator

import pytest
from toy_server import Server, begin, free_port
from toy_tree import Toy, make_toy


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("tree") / "toy")


@pytest.fixture
def here(tree: Toy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Toy:
    """The toy as this process's work tree, and an experiment for this test alone."""
    monkeypatch.chdir(tree.path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_", "CLIPTUNE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    # A stage that takes ten seconds, on a busy machine, would have metrics that no test counts.
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    return tree


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = begin(tmp_path_factory.mktemp("server"), free_port())
    yield started
    started.end()
