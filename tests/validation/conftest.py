import pytest


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch):
    """A process more to start costs more than it saves on a few small pictures."""
    monkeypatch.setenv("CLIPTUNE_WORKERS", "1")


@pytest.fixture
def out(tmp_path_factory):
    """Where outputs go: not into the source."""
    return tmp_path_factory.mktemp("out")
