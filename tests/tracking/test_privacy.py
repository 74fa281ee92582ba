"""Credentials planted wherever a run looks, and then looked for in all that it left behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from planted import LETTERS, TOKENS
from toy_tree import ROOT, Toy

from pipeline import recording, tracking, tracking_sink
from pipeline.params import Section

pytest_plugins = ["toy_fixtures"]

PLACES = (
    "remote", "store", "ci", "param", "list", "params.yaml", "dvc.yaml", "dvc.lock", "input",
    "code", "note", "utf16", "error", "defect", "client", "experiment",
)  # fmt: skip
SECRETS = {place: f"{place[:4]}{LETTERS[i:]}{LETTERS[:i]}"[:36] for i, place in enumerate(PLACES)}
"""Each unlike the others, so that a find tells where it came from."""

LEFT_BEHIND = ("mlflow.db", "mlruns", ".cliptune", "runs")


class Asked(Section):
    url: str
    words: list[str]


def plant(here: Toy, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A work tree and an environment full of credentials; the params of a stage."""
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        old = Path(name).read_text() if Path(name).is_file() else ""
        Path(name).write_text(f"{old}# https://me:{SECRETS[name]}@host.internal/\n")
    graph = Path("dvc.yaml").read_text()
    source = f"https://me:{SECRETS['input']}@host.internal/raw"
    Path("dvc.yaml").write_text(graph.replace("deps: [data/raw,", f'deps: ["{source}", data/raw,'))
    Path("code.py").write_text(f"api_key = '{SECRETS['code']}'\n")
    here.git("add", "code.py")
    Path("note.txt").write_text(f"ghp_{SECRETS['note']}\n")
    Path("utf16.txt").write_bytes(f"GITLAB=glpat-{SECRETS['utf16']}".encode("utf-16"))
    here.git("config", "remote.origin.url", f"https://me:{SECRETS['remote']}@git.internal/a.git")
    monkeypatch.setenv("CI_JOB_URL", f"https://{SECRETS['ci']}@ci.internal/1#access_token=x")
    monkeypatch.setenv("DVC_EXP_NAME", f"token={SECRETS['experiment']}")
    return Asked(url=f"s3://me:{SECRETS['param']}@host/b", words=["a", f"hf_{SECRETS['list']}"])


def failing(*_: Any) -> None:
    raise ConnectionError(f"no way to http://me:{SECRETS['client']}@host: reset")


def run_stages(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails, one that loses its store, one that goes well; then the record."""
    with pytest.raises(OSError, match="can't read"), tracking.stage_run("train", asked):
        raise OSError(f"can't read https://me:{SECRETS['error']}@host/x?sig={SECRETS['error']}")
    with monkeypatch.context() as patched, tracking.stage_run("train", asked) as run:
        patched.setattr(tracking_sink, "send", failing)
        run.metrics({"rows": 1})
        run._sink.put(
            {"op": "tags", "run": run.run_id, "values": {"x": f"token={SECRETS['error']}"}}
        )
        run._sink.flush()
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, asked) as run:
            run.metrics({"rows": 1})
    recording.record_pipeline()


def found_in(here: Toy, said: str) -> dict[str, list[str]]:
    """Which secrets are in what a run left or said, and where."""
    files = [p for name in LEFT_BEHIND for p in (here.path / name, *(here.path / name).rglob("*"))]
    texts = {str(file): file.read_bytes() for file in files if file.is_file()}
    texts["stderr"] = said.encode()
    assert len(texts) > 10
    return {
        place: names
        for place, secret in SECRETS.items()
        if (names := [name for name, text in texts.items() if secret.encode() in text])
    }


def test_nothing_that_a_run_leaves_holds_a_credential(
    here: Toy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = plant(here, monkeypatch)
    run_stages(asked, monkeypatch)
    assert list((here.path / ".cliptune/spool").glob("*.jsonl"))
    away = f"http://me:{SECRETS['store']}@127.0.0.1:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", away)
    run_stages(asked, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:{SECRETS['store']}/x@host/db")
    run_stages(asked, monkeypatch)
    said = capfd.readouterr().err
    assert found_in(here, said) == {}
    assert here.receipt("train")["params"] == {"url": "s3://host/b", "words": ["a", "…"]}
    assert "https://host.internal/raw" in here.receipt("prepare")["inputs"]
    run = here.runs()[0]
    for name in ("code.py", "note.txt", "utf16.txt", "params.yaml", "dvc.yaml", "dvc.lock"):
        assert name in run.data.tags["source.left_out"]
        assert name in said
    assert run.data.tags["ci.run_url"] == "https://ci.internal/1"
    assert run.data.tags["mlflow.source.git.repoURL"] == "https://git.internal/a.git"
    kept = here.download(run.info.run_id, "source")
    assert {path.name for path in kept.iterdir()} == {"environment.json"}


@pytest.mark.parametrize("kind", ["errors.DataError", "OSError"])
def test_a_command_shows_no_credential_when_it_fails(kind: str) -> None:
    code = (
        "import os\nfrom pipeline import errors\n"
        f"def main(): raise {kind}('at ' + os.environ['X'] + ' is nothing')\nerrors.run(main)"
    )
    secret = f"https://me:{SECRETS['defect']}@host/ {TOKENS['a GitHub token']}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env={"X": secret}, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.endswith("at https://host/ … is nothing")
    assert last.startswith("error: " if kind == "errors.DataError" else "OSError: ")
    assert ("Traceback" in done.stderr) == (kind == "OSError")
    assert SECRETS["defect"] not in done.stderr
