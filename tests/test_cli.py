import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.artifacts import write_json
from tests.reporting.synthetic import RESULTS, scores

ROOT = Path(__file__).parents[1]

SUMMARY = """\
On 500 test pictures the fine-tuned model names 91 % correctly; the base 42 %: +49 points [45, 53].
On base_slice it lost 7 points [5, 9].
On flickr no difference was shown in image → text R@1 (+1 points [−2, 4]).
models/final is the trained model itself (α = 1): the best on validation.

                          base   fine-tuned   gain in points [interval]
target (500 pictures)
  Zero-shot accuracy    42.0 % →     91.0 %    +49.0 [45.0, 53.0]
  Image → text R@1      42.0 % →     91.0 %    +49.0 [45.0, 53.0]
  Text → image R@1      42.0 % →     91.0 %    +49.0 [45.0, 53.0]
base_slice (400 pictures)
  Zero-shot accuracy    83.0 % →     76.0 %     −7.0 [−9.0, −5.0]
  Image → text R@1      83.0 % →     76.0 %     −7.0 [−9.0, −5.0]
  Text → image R@1      83.0 % →     76.0 %     −7.0 [−9.0, −5.0]
flickr (1,000 pictures)
  Image → text R@1      50.0 % →     51.0 %     +1.0 [−2.0, 4.0]  no difference shown
  Text → image R@1      50.0 % →     51.0 %     +1.0 [−2.0, 4.0]  no difference shown

report  reports/index.html
runs    make ui
"""


@pytest.fixture(autouse=True)
def work_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_summary_shows_every_set(work_tree, capsys):
    flickr = scores(0.5, 0.51, -0.02, 0.04, labels=False, images=1000)
    general = {**RESULTS["general"], "flickr": flickr}
    write_json(work_tree / "metrics/evaluate.json", {**RESULTS, "general": general})
    cli.main(["summary"])
    assert capsys.readouterr().out == SUMMARY


def test_summary_before_a_run_says_what_to_do(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["summary"])
    assert stop.value.code == 1
    expected = "error: metrics/evaluate.json is missing: run `make repro` first\n"
    assert capsys.readouterr().err == expected


def test_summary_of_a_damaged_file_says_what_to_do(work_tree, capsys):
    (work_tree / "metrics").mkdir()
    (work_tree / "metrics/evaluate.json").write_text("<<<<<<< HEAD\n{}")
    with pytest.raises(SystemExit) as stop:
        cli.main(["summary"])
    assert stop.value.code == 1
    assert "metrics/evaluate.json is not valid JSON" in capsys.readouterr().err


def test_without_a_command_it_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    shown = capsys.readouterr().out
    assert "summary" in shown
    assert "ui" in shown


def test_the_command_starts_without_the_heavy_libraries():
    heavy = {"torch", "mlflow", "matplotlib", "pandas", "numpy", "pydantic", "PIL", "jinja2"}
    code = f"import sys, pipeline.cli; print(sorted(set(sys.modules) & {heavy}))"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics/evaluate.json", RESULTS)
    script = "import sys; from pipeline import cli; sys.stdin.read(); cli.main(['summary'])"
    command = subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdout is not None
    command.stdout.close()
    assert command.communicate()[1] == b""
    assert command.returncode == 0


def test_the_ui_of_a_server_is_only_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org/")
    store = "https://mlflow.example.org/"
    for name, uri, experiment in (("clean", "sqlite:////old.db", "1"), ("pipeline", store, "7")):
        receipt = {"experiment_id": experiment, "tracking_uri": uri}
        write_json(Path(f"runs/{name}.json"), receipt)
    cli.main(["ui"])
    shown = "viewStateShareKey=cliptune-pipelines&workflowType=machine_learning"
    expected = f"Pipeline runs: https://mlflow.example.org/#/experiments/7/runs?{shown}\n"
    assert capsys.readouterr().out == expected
    Path("runs/pipeline.json").unlink()
    cli.main(["ui"])
    expected = "Pipeline runs: https://mlflow.example.org/#/experiments\n"
    assert capsys.readouterr().out == expected
