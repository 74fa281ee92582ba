"""`cliptune export-model`, from the command line on."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli, exporting
from pipeline.clip.model import Clip
from pipeline.registry import bundle
from tests.drawing import ROOT
from tests.registry.models import make


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    bundle.save(Path("models/final"), make(tmp_path, "left"), record={})
    return tmp_path


def stopped(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(["export-model", *arguments])
    assert stop.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("to", ["transformers", "onnx", "mlflow"])
def test_what_is_printed_loads_the_model(
    to: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["export-model", "out", "--to", to])
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2
    python = [line for line in lines if not line.startswith("mlflow models serve")]
    script = "\n".join([f"import {'onnxruntime' if to == 'onnx' else to}", *python])
    subprocess.run([sys.executable, "-c", script], cwd=saved, check=True, capture_output=True)


def test_a_folder_that_is_there_is_left_alone(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    assert "out is there already" in stopped(capsys, "out", "--to", "onnx")
    assert [file.name for file in Path("out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("to", ["transformers", "onnx", "mlflow"])
def test_a_bundle_that_is_not_whole_is_not_exported(
    to: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = stopped(capsys, "out", "--to", to, "--model", "models/none")
    assert "models/none does not exist" in said
    with Path("models/final/open_clip_model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "it was cut short or replaced" in stopped(capsys, "out", "--to", to)
    assert not Path("out").exists()


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, tiny: Clip) -> None:
    """In a process that finds none of the extra's packages."""
    bundle.save(tmp_path / "final", tiny, record={})
    script = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in {"onnx", "onnxruntime", "transformers"}
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
from pipeline import cli
cli.main(["export-model", "out", "--to", sys.argv[1], "--model", "final"])
"""
    command = [sys.executable, "-c", script]
    for to, packages in exporting.NEEDS.items():
        done = subprocess.run(
            [*command, to],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if packages:
            listed = " ".join(packages)
            assert done.stderr.endswith(f"pip install {listed}\n"), done.stderr
        else:
            assert done.returncode == 0, done.stderr


def test_the_packages_are_those_of_the_extra() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {requirement.partition(">")[0] for requirement in extras["export"]}
    assert named == {package for packages in exporting.NEEDS.values() for package in packages}
