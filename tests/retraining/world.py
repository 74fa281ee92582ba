"""What a scheduled retraining lives in: a git origin, a bucket, an MLflow server, and weeks.

Each week is a runner of its own, as in CI: a fresh clone, which gets the folder .cliptune of the
week before, as a CI's cache brings it, and nothing else. Data come to the bucket as one Parquet
file a week.
"""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from tests.checkouts import edit
from tests.services import S3, Line
from tests.tracking.toy_server import Server

ROOT = Path(__file__).parents[2]
DATA = "data/mine"
ALONE = ("GITHUB_", "MLFLOW", "DVC", "CLIPTUNE", "AWS_", "CI_")
"""Variables of whoever runs the tests that a runner does not get."""


@dataclass(frozen=True)
class Ran:
    """A week: how it ended, what it printed, its summary, and what it cost.

    `took`: seconds of each stage that was executed; `up`, `down`: bytes to and from the bucket.
    """

    code: int
    output: str
    summary: dict[str, Any]
    page: str
    seconds: float
    up: int
    down: int
    took: dict[str, float]

    @property
    def stages(self) -> list[str]:
        """The stages that were executed, those restored from a cache left out."""
        lines = self.output.splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage '")]


@dataclass
class World:
    """All that outlives a week."""

    path: Path
    s3: S3
    line: Line
    server: Server
    environ: dict[str, str]
    weeks: dict[str, Ran] = field(default_factory=dict)
    all_anew: dict[str, float] = field(default_factory=dict)
    runner: Path | None = None

    @property
    def origin(self) -> Path:
        return self.path / "origin.git"

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.origin, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def show(self, name: str) -> str:
        """A file of the branch main, as the origin has it."""
        return self.git("show", f"main:{name}")

    def lost(self) -> list[str]:
        """What dvc.lock of main names and the remote does not have."""
        stages = YAML(typ="safe").load(self.show("dvc.lock"))["stages"].values()
        named = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
        kept = {key.rpartition("files/md5/")[2].replace("/", "") for key in self.s3.keys("dvc/")}
        return [path for path, digest in named.items() if digest not in kept]

    def history(self) -> list[str]:
        """The verdicts in the history that git keeps."""
        return list(pd.read_csv(io.StringIO(self.show("metrics/history.csv")))["verdict"])

    def aliases(self) -> list[str | None]:
        """Champion, challenger, previous."""
        found: list[str | None] = self._asked(
            "from mlflow.exceptions import MlflowException\n"
            "found = []\n"
            "for alias in ('champion', 'challenger', 'previous'):\n"
            "    try: version = client.get_model_version_by_alias('cliptune', alias).version\n"
            "    except MlflowException: version = None\n"
            "    found.append(version and str(version))"
        )
        return found

    def versions(self) -> int:
        """How many versions are registered."""
        found: int = self._asked("found = len(client.search_model_versions(\"name='cliptune'\"))")
        return found

    def _asked(self, code: str) -> Any:
        """What the server answers: `found` at the end of `code`, which has a `client`."""
        client = (
            "import sys, json, warnings; warnings.simplefilter('ignore')\n"
            "from mlflow import MlflowClient\n"
            "client = MlflowClient(sys.argv[1], sys.argv[1])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", f"{client}{code}\nprint(json.dumps(found))", self.server.uri],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    def put(self, name: str, rows: pd.DataFrame, *, spoil: str = "") -> None:
        """A Parquet file in the bucket: rows of image (bytes), caption, label."""
        table = rows
        if spoil == "shuffled":
            captions = list(table["caption"])
            random.Random(0).shuffle(captions)
            table = table.assign(caption=captions)
        if spoil == "truncated":
            third = set(list(dict.fromkeys(table["name"]))[::3])
            contents = zip(table["image"], table["name"], strict=True)
            table = table.assign(image=[b[: len(b) // 3] if n in third else b for b, n in contents])
        images = pa.array(
            [{"bytes": b, "path": p} for b, p in zip(table["image"], table["name"], strict=True)],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        )
        content = pa.table(
            {
                "image": images,
                "caption": pa.array(list(table["caption"]), pa.string()),
                "label": pa.array(list(table["label"]), pa.string()),
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(content, sink)
        client = self.s3._client()
        client.put_object(
            Bucket=self.s3.bucket, Key=f"incoming/{name}", Body=sink.getvalue().to_pybytes()
        )

    def set(self, changes: dict[str, Any]) -> None:
        """Somebody edits params.yaml and pushes that."""
        folder = self.path / "desk"
        subprocess.run(["git", "clone", "--quiet", self.origin, folder], check=True)
        edit(folder / "params.yaml", changes)
        for command in (["commit", "--quiet", "--all", "--message", "Params"], ["push", "--quiet"]):
            subprocess.run(["git", *command], cwd=folder, env=self.environ, check=True)
        shutil.rmtree(folder)

    def new_runner(self) -> Path:
        """A fresh clone with the .cliptune of the runner before, which is gone."""
        folder = self.path / f"runner-{len(list(self.path.glob('runner-*')))}"
        subprocess.run(
            ["git", "clone", "--quiet", "--branch", "main", str(self.origin), str(folder)],
            check=True, capture_output=True,
        )  # fmt: skip
        if self.runner is not None:
            if (self.runner / ".cliptune").is_dir():
                shutil.copytree(self.runner / ".cliptune", folder / ".cliptune", symlinks=True)
            shutil.rmtree(self.runner)
            self.runner.mkdir()  # so that the next gets another number
        self.runner = folder
        return folder

    def week(self, name: str, *arguments: str, fresh: bool = True, **environ: str) -> Ran:
        """Run `cliptune retrain --publish commit` on a runner; kept under `name`."""
        folder = self.new_runner() if fresh or self.runner is None else self.runner
        up, down, began = self.line.sent, self.line.received, time.monotonic()
        code, output, stages = self._shown(
            ["cliptune", "retrain", "--publish", "commit", *arguments],
            folder, self.environ_of(folder) | environ,
        )  # fmt: skip
        took = time.monotonic() - began
        ran = Ran(
            code,
            output,
            json.loads((folder / ".cliptune/retrain/summary.json").read_text()),
            (folder / ".cliptune/retrain/summary.md").read_text(),
            took,
            self.line.sent - up,
            self.line.received - down,
            stages,
        )
        self.weeks[name] = ran
        return ran

    def everything(self) -> dict[str, float]:
        """Seconds of each stage where nothing is in any cache; the last week's data."""
        folder = self.path / "anew"
        subprocess.run(["git", "clone", "--quiet", self.origin, folder], check=True)
        command = ["dvc", "repro", "--pull", "--allow-missing", "--force", "--no-run-cache"]
        targets = ["validate", "clean", "embed", "finetune", "evaluate"]
        environ = self.environ_of(folder)
        subprocess.run(["dvc", "pull", "--quiet"], cwd=folder, env=environ, check=True)
        code, output, stages = self._shown([*command, "--single-item", *targets], folder, environ)
        assert code == 0, output
        return stages

    def _shown(
        self, command: list[str], folder: Path, environ: dict[str, str]
    ) -> tuple[int, str, dict[str, float]]:
        """Run and show a command; its exit code, its output, and the seconds of DVC's stages."""
        process = subprocess.Popen(
            command, cwd=folder, env=environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        lines, stages, began, stage = [], {}, 0.0, ""
        with process:
            for line in process.stdout or ():
                print(line, end="")
                lines.append(line)
                if line.startswith("Running stage '"):
                    stage, began = line.split("'")[1], time.monotonic()
                    stages[stage] = 0.0
                elif stage and line.startswith(("Updating lock file", "ERROR")):
                    stages[stage], stage = time.monotonic() - began, ""
        return process.returncode, "".join(lines), stages

    def environ_of(self, folder: Path) -> dict[str, str]:
        return self.environ | {"PYTHONPATH": str(folder)}

    def killed_in(self, stage: str, after: str, **environ: str) -> str:
        """Begin a week and kill all of it, as when a machine is lost, once a file is there."""
        folder = self.new_runner()
        process = subprocess.Popen(
            ["cliptune", "retrain", "--publish", "commit"],
            cwd=folder, env=self.environ_of(folder) | environ, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        until = time.monotonic() + 600
        while not list(folder.glob(after)):
            assert time.monotonic() < until, "it never came so far"
            assert process.poll() is None, process.stdout and process.stdout.read()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        assert f"Running stage '{stage}'" in output
        return output


def environ_without_user(tools: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ALONE)}
    return kept | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "Retraining",
        "GIT_AUTHOR_EMAIL": "retraining@example.org",
        "GIT_COMMITTER_NAME": "Retraining",
        "GIT_COMMITTER_EMAIL": "retraining@example.org",
    }


def pictures(sample: Path) -> pd.DataFrame:
    """The sample's sound pictures, a row a caption: image (bytes), name, caption, label."""
    rows = pd.read_csv(sample / "captions.csv", dtype=str).dropna()
    contents, known = {}, set()
    for name in rows["image"].unique():
        file = sample / name
        content = file.read_bytes() if file.is_file() else b""
        digest = hashlib.sha256(content).hexdigest()
        if content and digest not in known:
            contents[name] = content
        known.add(digest)
    rows = rows[rows["image"].isin(contents.keys())].reset_index(drop=True)
    return rows.assign(name=rows["image"], image=[contents[name] for name in rows["image"]])


def of_pictures(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    return rows[rows["name"].isin(names)].reset_index(drop=True)
