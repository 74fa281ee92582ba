"""A toy pipeline in a real git and DVC repository, and what MLflow holds of it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

PARAMS = """\
seed: 7
prepare: {lines: 3, words: [a, b]}
train: {lr: 0.25, epochs: 3, mishap: none, sleep: 0.0}
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
    """The toy's work tree."""

    path: Path

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.path, env=self.environ(environ), capture_output=True, text=True
        )

    def start(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environ(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def dvc(self, *arguments: str, **environ: str) -> str:
        """Run DVC; its output. A failure fails the test."""
        done = self.run("dvc", *arguments, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def environ(self, extra: Mapping[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
        tools = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
        return kept | tools | {"DVC_NO_ANALYTICS": "1"} | extra

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", "x")
        return self.git("rev-parse", "HEAD")

    def set(self, old: str, new: str) -> None:
        file = self.path / "params.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def runs(self, uri: str | None = None) -> list[Run]:
        """All runs of the experiment, oldest first."""
        client = MlflowClient(uri or f"sqlite:///{self.path}/mlflow.db")
        experiment = client.get_experiment_by_name("cliptune")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
        return list(found)


def make_toy(path: Path) -> Toy:
    """A committed toy pipeline whose data is not in git."""
    toy = Toy(path)
    (path / "data/raw").mkdir(parents=True)
    (path / "data/raw/rows.txt").write_text("row 1\nrow 2\nrow 3\n")
    (path / "stages").mkdir()
    shutil.copy(HERE / "toy_stage.py", path / "stages")
    (path / "params.yaml").write_text(PARAMS)
    (path / "dvc.yaml").write_text(GRAPH)
    (path / ".gitignore").write_text(IGNORED + "/data/\n")
    toy.git("init", "-q", "-b", "main")
    toy.git("config", "user.email", "a@b")
    toy.git("config", "user.name", "a")
    toy.dvc("init", "-q")
    toy.commit()
    return toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return make_toy(tmp_path)
