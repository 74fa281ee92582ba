"""A toy pipeline with the stages that a sweep runs, and the real params.yaml.

What a training gives follows from its params, so that a test knows the best. Stages that make runs
of MLflow take seconds; `runs=False` leaves them out.
"""

import shutil
from pathlib import Path

from tests.tracking.toy_tree import IGNORED, Toy

ROOT = Path(__file__).parents[2]
STAGE = Path(__file__).parent / "toy_sweep_stage.py"

GRAPH = """\
stages:
  embed:
    cmd: python stages/toy_sweep_stage.py embed
    params: [embed]
    deps: [data/raw, stages/toy_sweep_stage.py]
    outs: [data/selected]
  finetune:
    cmd: python stages/toy_sweep_stage.py finetune{runs}
    params: [seed, finetune]
    deps: [data/selected, data/raw, stages/toy_sweep_stage.py]
    outs: [models/finetuned, runs/finetune.json]
    metrics: [metrics/finetune.json]
  evaluate:
    cmd: python stages/toy_sweep_stage.py evaluate
    params: [evaluate]
    deps: [models/finetuned, metrics/finetune.json, stages/toy_sweep_stage.py]
    outs: [models/final]
    metrics: [metrics/evaluate.json]
"""

RECORD = """\
  record:
    cmd: python -m stages.record
    deps: [runs/finetune.json]
    outs: [runs/pipeline.json]
"""


def make(path: Path, space: str, *, lr: str = "5.0e-4", runs: bool = False) -> Toy:
    """A toy with a result, whose data neither git nor DVC keeps."""
    toy = Toy(path)
    (path / "data/raw").mkdir(parents=True)
    (path / "data/raw/rows.txt").write_text("row 1\nrow 2\n")
    (path / ".cliptune").mkdir()
    (path / "stages").mkdir()
    shutil.copy(STAGE, path / "stages")
    text = with_space(space).replace("\n  lr: 5.0e-4", f"\n  lr: {lr}")
    (path / "params.yaml").write_text(text)
    marked = " runs" if runs else ""
    (path / "dvc.yaml").write_text(GRAPH.format(runs=marked) + (RECORD if runs else ""))
    ignored = "/models/\n/data/?*\n!/data/*.dvc\n"
    (path / ".gitignore").write_text(IGNORED + ignored)
    toy.begin()
    return toy


def with_space(space: str) -> str:
    """params.yaml with another space."""
    text = (ROOT / "params.yaml").read_text()
    start, end = text.index("  space:\n") + len("  space:\n"), text.index("  # Trainings in all")
    return f"{text[:start]}    {space}\n{text[end:]}"


def calls(toy: Toy) -> list[str]:
    """The stages that were executed, in order, wherever their tree was."""
    file = toy.path / ".cliptune/calls"
    return file.read_text().split() if file.is_file() else []


def state(toy: Toy) -> dict[str, bytes | str]:
    """All that a sweep must leave as it was."""
    files = [path for path in toy.path.rglob("*") if path.is_file()]
    own = (".git", ".dvc", ".cliptune", "mlruns", "mlflow.db", "mlflow.db.lock")
    kept = {
        f"{path.relative_to(toy.path)}": path.read_bytes()
        for path in files
        if path.relative_to(toy.path).parts[0] not in own
    }
    head = (toy.path / ".git/HEAD").read_text()
    return {**kept, "HEAD": head, "status": toy.git("status", "--porcelain")}


def experiments(toy: Toy) -> list[str]:
    found = toy.git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps")
    return sorted(found.split())
