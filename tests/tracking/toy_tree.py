"""A toy pipeline in a real git and DVC repository, and what MLflow holds of it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.params import Section

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own, on import
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["GRAPH", "Numbers", "Run", "Toy", "by_role", "make_toy"]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

PARAMS = """\
seed: 7
prepare: {lines: 3, words: [a, b]}
train: {lr: 0.25, epochs: 3, sleep: 0.0}
"""

GRAPH = """\
stages:
  prepare:
    cmd: python stages/toy_stage.py prepare data/raw out/prepared.txt
    params: [seed, prepare]
    deps: [data/raw, stages/toy_stage.py]
    outs: [out/prepared.txt, runs/prepare.json]
    metrics: [metrics/prepare.json]
  train:
    cmd: python stages/toy_stage.py train out/prepared.txt out/model.txt
    params: [seed, train]
    deps: [out/prepared.txt, stages/toy_stage.py]
    outs: [out/model.txt, runs/train.json]
    metrics: [metrics/train.json]
  record:
    cmd: python -m stages.record
    deps: [runs/prepare.json, runs/train.json]
    outs: [runs/pipeline.json]
"""

IGNORED = "/mlflow.db*\n/mlruns/\n/.cliptune/\n/out/\n/runs/\n/metrics/\n__pycache__/\n"


@dataclass
class Toy:
    """The toy's work tree.

    `tracking` is the URI of its store, where that is not the tree's own, and `experiment` the name
    of its experiment, where the environment of this process does not say.
    """

    path: Path
    tracking: str = ""
    experiment: str = ""

    @property
    def store(self) -> str:
        return self.tracking or f"sqlite:///{self.path}/mlflow.db"

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = self.environ(environ)
        return subprocess.run(
            command, cwd=self.path, env=env, capture_output=True, text=True, check=False
        )

    def start(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        """Begin a command, at the head of a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environ(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def dvc(self, *arguments: str, **environ: str) -> str:
        """Run DVC; its output. A failure fails the test."""
        done = self.run("dvc", *arguments, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def environ(self, extra: Mapping[str, str]) -> dict[str, str]:
        kept: dict[str, str] = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))
        }
        tools = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
        place = {"MLFLOW_TRACKING_URI": self.tracking, "MLFLOW_EXPERIMENT_NAME": self.experiment}
        chosen = {key: value for key, value in place.items() if value}
        return kept | tools | chosen | {"DVC_NO_ANALYTICS": "1"} | dict(extra)

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def begin(self) -> None:
        """Make it a repository of git and DVC, with a first commit of all that is there."""
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "a@b")
        self.git("config", "user.name", "a")
        self.dvc("init", "-q")
        self.commit()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", "x", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def reset(self) -> None:
        """Go back to the last commit, the pipeline's outputs too."""
        self.git("reset", "-q", "--hard")
        self.dvc("checkout", "-q")

    def set(self, old: str, new: str) -> None:
        file = self.path / "params.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def client(self, uri: str | None = None) -> MlflowClient:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return MlflowClient(uri or self.store)

    def runs(self, uri: str | None = None) -> list[Run]:
        """All runs of the experiment, oldest first."""
        client = self.client(uri)
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "cliptune")
        found = client.get_experiment_by_name(name)
        assert found is not None
        return list(client.search_runs([found.experiment_id], order_by=["start_time ASC"]))

    def receipt(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "runs" / f"{name}.json").read_text())
        return found

    def download(self, run: str, path: str, uri: str | None = None) -> Path:
        """A file of a run; its folder is deleted with the test's."""
        target = Path(tempfile.mkdtemp(dir=self.path.parent))
        return Path(self.client(uri).download_artifacts(run, path, str(target)))


def make_toy(path: Path, tracking: str = "", experiment: str = "") -> Toy:
    """A committed toy pipeline; its data lies in git, and no stage writes it."""
    toy = Toy(path, tracking, experiment)
    (path / "data/raw").mkdir(parents=True)
    (path / "data/raw/rows.txt").write_text("row 1\nrow 2\nrow 3\n")
    (path / "stages").mkdir()
    shutil.copy(HERE / "toy_stage.py", path / "stages")
    (path / "params.yaml").write_text(PARAMS)
    (path / "dvc.yaml").write_text(GRAPH)
    (path / ".gitignore").write_text(IGNORED)
    toy.begin()
    return toy


class Numbers(Section):
    """Params of a stage of which nothing matters."""

    seed: int


def by_role(runs: list[Run], role: str) -> list[Run]:
    return [run for run in runs if run.data.tags["pipeline.role"] == role]
