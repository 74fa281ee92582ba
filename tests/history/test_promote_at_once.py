"""`cliptune promote` against a real server: its whole way, and two of them at once."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.history.rollback import rollback
from tests.history.test_promote import ANY, NONE, Tree, tree
from tests.services import mlflow_server, postgres, without_secrets
from tests.tracking.toy_server import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

__all__ = ["tree"]  # the fixture of the other module

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    if request.param == "sqlite":
        with mlflow_server(folder) as found:
            yield found
    else:
        with postgres() as database, mlflow_server(folder, backend=database.create("x")) as found:
            yield found


@pytest.fixture
def served(tree: Tree, server: Server, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """The tree, whose runs are on the server, in an experiment of its own; no model is there."""
    name = Path.cwd().name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    tree.client = MlflowClient(server.uri, server.uri)
    tree.experiment = tree.client.create_experiment(name)
    if tree.client.search_registered_models("name='cliptune'"):
        tree.client.delete_registered_model("cliptune")
    return tree


def test_a_model_is_promoted_and_rolled_back(served: Tree, tmp_path: Path) -> None:
    served.run(1)
    assert served.promote(NONE).verdict == "hold"
    assert served.promote(ANY).verdict == "promote"
    served.run(2)
    told = served.promote(ANY)
    assert (told.verdict, told.champion, served.aliases()) == ("promote", "1", ["2", "2", "1"])
    assert rollback(Path.cwd(), "cliptune") == ("2", "1")
    assert served.aliases() == ["1", "2", None]
    assert without_secrets((tmp_path / ".cliptune/promotion.md").read_text()) == []


def test_of_two_commands_at_once_one_promotes_and_the_other_says_so(
    served: Tree, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two machines, each with the model of a run of its own."""
    served.run(1)
    served.promote(ANY)
    trees = []
    for seed in (11, 12):
        served.run(seed)
        trees.append(tmp_path_factory.mktemp("machine") / "tree")
        shutil.copytree(Path.cwd(), trees[-1])
    begun = [
        subprocess.Popen(
            [Path(sys.executable).parent / "cliptune", "promote"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in trees
    ]
    said = [process.communicate() for process in begun]
    codes = [process.returncode for process in begun]
    assert sorted(codes) == [0, 1], said
    won, lost = said[codes.index(0)], said[codes.index(1)]
    assert won[0].startswith("# promote: cliptune\n")
    complaint = lost[1].splitlines()[-1]
    assert complaint.startswith("error: ")
    assert "another promotion of" in complaint or "became champion meanwhile" in complaint
    champion, challenger, previous = served.aliases()
    assert (champion == challenger, previous) == (True, "1")
    assert champion in {"2", "3"}
