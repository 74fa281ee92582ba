"""A DVC remote on S3, and MLflow's artifacts on S3 behind its server: by the real protocol."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy_tree import Numbers, Toy, by_role, make_toy

from pipeline import recording, tracking
from pipeline.history import spooled
from pipeline.history import sync as syncing
from pipeline.tracking_store import waits
from tests.services import (
    KEY_ID,
    S3,
    SECRET_KEY,
    line_to,
    mlflow_server,
    s3_server,
    without_secrets,
)

pytest_plugins = ["toy_fixtures"]

FILES = 7
"""Objects of the toy's outputs: what each of two stages makes, its metrics and its receipt, and the
record."""

IMPATIENT = {"AWS_MAX_ATTEMPTS": "1"}
"""By default, each file that can't be sent is tried for half a minute."""


@dataclass
class Remote:
    """A toy whose one pipeline run was pushed to S3."""

    s3: S3
    toy: Toy
    run: str
    folder: Path

    def clone(self, name: str) -> Toy:
        """A fresh clone, which shares the store of runs and nothing else."""
        self.toy.git("clone", "-q", str(self.toy.path), str(self.folder / name))
        return Toy(self.folder / name, tracking=self.toy.store)

    def told(self) -> list[tuple[str, str]]:
        """What the store holds: each run, and how it was last proved."""
        runs = self.toy.runs()
        return [(run.info.run_id, run.data.tags.get("reproduced.at", "")) for run in runs]

    def go(
        self, toy: Toy, *command: str, keys: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as one who may use S3, or (without `keys`) may not."""
        known = {name: value for name, value in self.s3.environ.items() if keys or not_key(name)}
        return toy.run(*command, **known, **environ)


def not_key(name: str) -> bool:
    return name not in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("remote")
    with pytest.MonkeyPatch.context() as patch, s3_server(folder / "s3") as s3:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", *s3.environ):
            patch.delenv(name, raising=False)
        toy = make_toy(folder / "toy")
        s3.use(toy.path)
        toy.commit()
        toy.dvc("repro")
        toy.commit()
        toy.dvc("push", "--run-cache", **s3.environ)
        (run,) = by_role(toy.runs(), "pipeline")
        yield Remote(s3, toy, run.info.run_id, folder)


def cached(toy: Toy) -> int:
    """How many files DVC's cache holds."""
    return sum(file.is_file() for file in (toy.path / ".dvc/cache/files").rglob("*"))


def test_what_a_run_needs_is_on_s3_and_the_run_says_so(remote: Remote) -> None:
    assert len(remote.s3.keys("dvc/files/")) == FILES
    assert len(remote.s3.keys("dvc/runs/")) == 3
    runs = remote.toy.runs()
    assert {run.data.tags["reproducible"] for run in runs} == {"yes"}
    stores = [remote.toy.path / "mlflow.db", *(remote.toy.path / "mlruns").rglob("*")]
    texts = [file.read_bytes().decode(errors="replace") for file in stores if file.is_file()]
    texts += [file.read_text() for file in (remote.toy.path / "runs").iterdir()]
    assert without_secrets(*texts) == []
    assert not [text for text in texts if KEY_ID in text]
    assert len(texts) == 10  # the database, two models, source/ and three receipts


def test_a_fresh_clone_runs_nothing_and_fetches_nothing_it_does_not_need(remote: Remote) -> None:
    clone, before = remote.clone("same"), len(remote.toy.runs())
    done = remote.go(clone, "dvc", "repro", "--pull", "--allow-missing")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("didn't change, skipping") == 3
    assert (cached(clone), len(remote.toy.runs())) == (0, before)
    assert not (clone.path / "out").exists()


def test_a_change_in_a_fresh_clone_fetches_what_the_changed_stage_needs(remote: Remote) -> None:
    clone, before = remote.clone("changed"), len(remote.toy.runs())
    clone.set("lr: 0.25", "lr: 0.125")
    done = remote.go(clone, "dvc", "repro", "--pull", "--allow-missing")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stage 'prepare' didn't change, skipping" in done.stdout
    # out/prepared.txt and prepare's receipt came; model, metrics, receipt and record were made.
    assert cached(clone) == 6
    assert not (clone.path / "metrics/prepare.json").exists()
    added = remote.toy.runs()[before:]
    assert [run.data.tags["pipeline.role"] for run in added] == ["pipeline", "stage"]
    pipeline = added[0].data
    assert (pipeline.tags["dvc.stage.prepare"], pipeline.tags["dvc.stage.train"]) == (
        "reused",
        "executed",
    )
    assert pipeline.metrics["prepare/rows"] == 3


def test_a_run_is_reproduced_through_s3(remote: Remote) -> None:
    clone = remote.clone("proof")
    done = remote.go(clone, "cliptune", "reproduce", remote.run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": identical" in done.stdout
    assert cached(clone) == FILES - 1  # the record is no part of what is proved
    assert without_secrets(done.stdout, done.stderr) == []


@pytest.mark.parametrize(
    ("keys", "bucket", "why"),
    [
        (False, "store", "Unable to locate credentials"),
        (True, "nowhere", "The specified bucket does not exist"),
    ],
)
def test_without_credentials_or_bucket_it_is_said_and_nothing_runs(
    remote: Remote, keys: bool, bucket: str, why: str
) -> None:
    clone, before = remote.clone(f"without-{bucket}"), remote.told()
    clone.dvc("remote", "modify", "store", "url", f"s3://{bucket}/dvc")
    began = time.monotonic()
    done = remote.go(clone, "dvc", "push", keys=keys)
    assert (done.returncode, done.stdout) == (255, "")
    assert f"ERROR: unexpected error - {why}" in done.stderr
    done = remote.go(clone, "cliptune", "reproduce", remote.run, keys=keys)
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        "error: metrics/prepare.json (and 3 more) is not in the cache, and DVC's"
    )
    assert f" - {why}" in said
    assert said.endswith("So nothing is proved")
    clone.set("lr: 0.25", "lr: 0.125")
    done = remote.go(clone, "dvc", "repro", "--pull", "--allow-missing", keys=keys)
    assert done.returncode == 255
    assert time.monotonic() - began < 60
    assert (remote.told(), cached(clone)) == (before, 0)


@pytest.mark.slow
def test_credentials_in_dvcs_settings_are_in_no_run(remote: Remote, tmp_path: Path) -> None:
    """`--local` keeps them out of git; without it the file stays out of the patch."""
    clone = remote.clone("told")
    clone.tracking = f"sqlite:///{tmp_path}/mlflow.db"
    for level in (["--local"], []):
        for name, value in {"access_key_id": KEY_ID, "secret_access_key": SECRET_KEY}.items():
            clone.dvc("remote", "modify", *level, "store", name, value)
        clone.set("lr: 0.", "lr: 0.0")
        done = remote.go(clone, "dvc", "repro", "--pull", "--allow-missing", keys=False)
        assert done.returncode == 0, done.stdout + done.stderr
    (first, _), (later, _) = [
        [run for run in clone.runs() if run.data.tags["pipeline.session"] == session]
        for session in dict.fromkeys(r.data.tags["pipeline.session"] for r in clone.runs())
    ]
    assert (first.data.tags["reproducible"], later.data.tags["reproducible"]) == ("yes", "no")
    assert ".dvc/config" in later.data.tags["reproducible.why"]
    texts = [
        file.read_bytes().decode(errors="replace")
        for folder in (tmp_path, clone.path / "mlruns", clone.path / "runs")
        for file in folder.rglob("*")
        if file.is_file()
    ]
    assert without_secrets(done.stdout, done.stderr, *texts) == []


def test_a_push_that_was_cut_is_completed_by_the_next(remote: Remote) -> None:
    clone = remote.clone("cut")
    for number in range(12):
        (clone.path / "big").mkdir(exist_ok=True)
        (clone.path / f"big/{number}").write_bytes(os.urandom(300_000))
    clone.dvc("add", "-q", "big")
    before = len(remote.s3.keys())
    with line_to(remote.s3.port) as line:
        remote.s3.use(clone.path, endpoint=line.endpoint)
        line.cut(after=2_000_000)
        done = remote.go(clone, "dvc", "push", "big", **IMPATIENT)
        assert done.returncode == 1
        assert "files failed to upload" in done.stderr
        sent = len(remote.s3.keys()) - before
        assert 0 < sent < 12
        done = remote.go(clone, "dvc", "push", "big", **IMPATIENT)
        assert done.returncode == 255  # still cut
        line.mend()
        done = remote.go(clone, "dvc", "push", "big")
        assert done.returncode == 0, done.stderr
        assert f"{13 - sent} files pushed" in done.stdout  # with the list of the folder
    other = remote.folder / "cut-other"
    other.mkdir()
    assert len(remote.s3.keys()) - before == 13
    clone.commit()
    clone.git("clone", "-q", str(clone.path), str(other))
    clone.git("-C", str(other), "checkout", "-q", "main")
    pulled = Toy(other)
    remote.s3.use(other)
    assert remote.go(pulled, "dvc", "pull", "big.dvc").returncode == 0
    for number in range(12):
        one, two = (tree.path / f"big/{number}" for tree in (clone, pulled))
        assert one.read_bytes() == two.read_bytes()


def test_a_servers_files_are_on_s3_and_a_stage_outlives_it(
    here: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server alone holds the keys. Its S3 goes in the middle of a stage, and comes back."""
    with (
        s3_server(tmp_path / "s3", bucket="mlflow") as s3,
        line_to(s3.port) as line,
        mlflow_server(
            tmp_path / "server",
            artifacts="s3://mlflow/files",
            environ=s3.environ | IMPATIENT | {"MLFLOW_S3_ENDPOINT_URL": line.endpoint},
        ) as server,
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        Path("note.txt").write_text("a")
        with tracking.stage_run("prepare", Numbers(seed=0)) as run:
            run.metrics({"rows": 4})
            run.artifact(Path("note.txt"), "deep")
        (key,) = s3.keys(f"files/{here.runs(server.uri)[0].info.experiment_id}/{run.run_id}/")
        assert key.endswith("/artifacts/deep/note.txt")
        assert s3.content(key) == b"a"
        assert capfd.readouterr().err == ""
        began = time.monotonic()
        with tracking.stage_run("train", Numbers(seed=0)) as late:
            line.cut()
            late.artifact(Path("note.txt"), "deep")
            late.metrics({"rows": 4})
        took = time.monotonic() - began
        assert took < 60
        assert "stopped answering" in capfd.readouterr().err
        assert waits(here.path) == 1
        line.mend()
        for module in (syncing, spooled):
            monkeypatch.setattr(module, "still_runs", lambda _: False)
        assert syncing.sync(here.path).journals == 1
        recording.record_pipeline()
        found = here.download(late.run_id, "deep/note.txt", server.uri)
        assert found.read_text() == "a"
        (pipeline,) = by_role(here.runs(server.uri), "pipeline")
        assert pipeline.data.metrics["train/rows"] == 4
        (server_db,) = (tmp_path / "server").glob("server.db")
        assert without_secrets(server_db.read_bytes().decode(errors="replace")) == []
        Path("note.txt").unlink()
