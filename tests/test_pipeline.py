"""The pipeline end to end: real DVC, MLflow, OpenCLIP and JPEGs, on a small copy of the sample."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pandas as pd
import pytest
import torch
from forked import Forked
from ruamel.yaml import YAML
from safetensors.torch import load_file

from pipeline.data.pairs import read_pairs, read_rejected
from pipeline.registry import bundle
from pipeline.reporting.comparison import percent
from tests.checkouts import edit, files_of

ROOT = Path(__file__).parents[1]
LOADS = re.compile(r"""(?:src|href|srcset)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//|@import""")
"""What would make a page reach for the network; an address in a caption's text does not."""
STAGES = ("validate", "clean", "embed", "finetune", "evaluate", "record")
SMALL = {
    "samples/params.yaml": {
        "scenes.images": 400,
        "scenes.dirty_captions": 4,
        "scenes.broken_files": 2,
        "scenes.copies": 4,
        "base_model.train_images": 256,
        "base_model.val_images": 64,
        "base_model.general_images": 64,
        "base_model.training.epochs": 1,
    },
    "params.yaml": {
        "finetune.epochs": 2,
        "finetune.batch_size": 32,
        "evaluate.bootstrap": 50,
    },
}


def run(folder: Path, *command: str, fails: bool = False, prefix: tuple[str, ...] = ()) -> str:
    """Run a command as a user would in `folder`; its output, or the test's failure with it."""
    done = subprocess.run(
        [*prefix, *command],
        cwd=folder,
        env=environment_of(folder),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def environment_of(folder: Path) -> dict[str, str]:
    """A user's, who has set nothing."""
    tools = Path(sys.executable).parent
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DVC"))}
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    return environment | {"PYTHONPATH": str(folder)}


def checkout(folder: Path) -> Path:
    """The files that git tracks, or would, as a repository of its own."""
    files_of(ROOT, folder)
    for file, changes in SMALL.items():
        edit(folder / file, changes)
    for command in (
        ["git", "init", "--quiet", "--initial-branch", "main"],
        ["git", "config", "user.email", "test@example.org"],
        ["git", "config", "user.name", "Test"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "A small copy"],
    ):
        run(folder, *command)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """Output → hash, of all stages; receipts, which name runs and times, left out."""
    found = {}
    for lock in (folder / "dvc.lock", folder / "samples" / "dvc.lock"):
        for stage in YAML(typ="safe").load(lock)["stages"].values():
            found |= {out["path"]: out["md5"] for out in stage["outs"]}
    return {path: md5 for path, md5 in found.items() if not path.startswith("runs/")}


def ran(output: str) -> list[str]:
    return [name for name in STAGES if f"Running stage '{name}'" in output]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy of the repository after its first `dvc repro`, which others may look at."""
    folder = checkout(tmp_path_factory.mktemp("project"))
    output = run(folder, "dvc", "repro")
    assert ran(output) == list(STAGES), output
    return folder


def test_every_stage_leaves_what_it_promises(project: Path) -> None:
    found = {s: json.loads((project / f"metrics/{s}.json").read_text()) for s in STAGES[:-1]}
    for stage in ("validate", "clean"):
        rejected = sum(found[stage]["rejected"].values())
        assert found[stage]["accepted"] + rejected == found[stage]["read"]
    assert found["clean"]["read"] == found["validate"]["accepted"]
    read = len(pd.read_csv(project / "samples/scenes/out/captions.csv"))
    assert found["validate"]["read"] == read
    assert len(read_rejected(project / "data/valid")) == sum(found["validate"]["rejected"].values())
    assert set(found["evaluate"]["general"]) == {"base_slice"}
    target = found["evaluate"]["target"]
    assert target["gain"]["top1"]["low"] <= target["gain"]["top1"]["value"]
    page = (project / "reports/index.html").read_text()
    assert "<html" in page
    docs = (project / "reports/data_docs.html").read_text()
    assert 'href="data_docs.html"' in page
    for text in (page, docs):
        assert not LOADS.findall(text)


def test_no_image_stands_on_two_sides(project: Path) -> None:
    pairs = read_pairs(project / "data/clean")
    assert pairs.groupby("image_id")["split"].nunique().max() == 1
    assert set(pairs["split"]) == {"train", "val", "test"}


def test_the_bundle_loads_in_plain_open_clip(project: Path) -> None:
    for folder in ("models/finetuned", "models/final"):
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{project / folder}")
        assert model.logit_scale.exp().item() <= 100


def test_what_evaluate_leaves_can_be_used_alone(project: Path, tmp_path: Path) -> None:
    """Outside the project, by the command: hashes hold, classes and prompts are recorded."""
    shutil.copytree(project / "models/final", tmp_path / "model")
    pairs = read_pairs(project / "data/clean")
    shutil.copy(project / "samples/scenes/out" / pairs["file"].iloc[0], tmp_path / "a.jpg")
    call = "main(['predict', 'a.jpg', '--model', 'model', '--json'])"
    predict = f"from pipeline.cli import main; {call}"
    said = run(tmp_path, "env", f"PYTHONPATH={project}", sys.executable, "-c", predict)
    labels = set(pairs["label"].dropna())
    assert {label["class"] for label in json.loads(said.splitlines()[-1])["labels"]} < labels
    assert bundle.verify(project / "models/finetuned")["data"]
    card = (tmp_path / "model/README.md").read_text()
    target = json.loads((project / "metrics/evaluate.json").read_text())["target"]
    row = f"| Zero-shot accuracy | {percent(target['base']['top1'])} | "
    assert f"{row}{percent(target['final']['top1'])} | " in card


def test_the_model_to_use_lies_where_the_results_say(project: Path) -> None:
    """Between base and fine-tuned weights, as far as alpha says, by plain safetensors."""
    alpha = json.loads((project / "metrics/evaluate.json").read_text())["alpha"]
    curve = pd.read_csv(project / "plots/interpolation.csv")
    assert set(curve["set"]) == {"target", "base_slice"}
    assert alpha in set(curve["alpha"])
    weights = "open_clip_model.safetensors"
    folders = ("samples/base_model/out", "models/finetuned", "models/final")
    base, tuned, final = (load_file(project / folder / weights) for folder in folders)
    for name, value in final.items():
        between = base[name].double().lerp(tuned[name].double(), alpha)
        assert torch.allclose(value.double(), between, atol=1e-5), name
    manifest = json.loads((project / "models/final/cliptune.json").read_text())
    assert manifest["alpha"] == alpha


def test_runs_are_nested_and_finished(project: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cliptune")
    runs = {r.info.run_id: r for r in client.search_runs([experiment.experiment_id])}
    receipts = {s: json.loads((project / f"runs/{s}.json").read_text()) for s in STAGES[:-1]}
    parents = {runs[r["run_id"]].data.tags["mlflow.parentRunId"] for r in receipts.values()}
    assert len(runs) == 6
    assert len(parents) == 1
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    parent = runs[parents.pop()]
    top1 = json.loads((project / "metrics/evaluate.json").read_text())["target"]["base"]["top1"]
    assert parent.data.metrics["evaluate/target/base/top1"] == pytest.approx(top1)
    assert parent.data.params["finetune.epochs"] == "2"
    stage = runs[receipts["finetune"]["run_id"]]
    assert len(client.get_metric_history(stage.info.run_id, "finetune/loss")) > 4
    assert {i.dataset.name for i in stage.inputs.dataset_inputs} >= {"data/selected"}


def test_a_second_repro_does_nothing(project: Path) -> None:
    output = run(project, "dvc", "repro")
    assert "Running stage" not in output
    assert "up to date" in output
    changed = run(project, "git", "status", "--porcelain").splitlines()
    assert changed == ["?? dvc.lock", "?? samples/dvc.lock", "?? stages/dvc.lock"]


def test_a_retraining_judges_what_was_trained_and_not_again(project: Path) -> None:
    """By hand, without a remote: the model is judged, and git stays as it is."""
    before = run(project, "git", "rev-parse", "HEAD")
    output = run(project, "cliptune", "retrain")
    assert ran(output) == []
    summary = json.loads((project / ".cliptune/retrain/summary.json").read_text())
    assert summary["verdict"] in ("promote", "hold")
    assert set(summary["promotion"]["found"]["outcomes"]) == {"target", "base_slice"}
    assert len(pd.read_csv(project / "metrics/history.csv")) == 1
    assert run(project, "git", "rev-parse", "HEAD") == before
    assert "Retraining of" in run(project, "cliptune", "retrain", "--dry-run")
    again = json.loads((project / ".cliptune/retrain/summary.json").read_text())
    assert (again["verdict"], again["serves"]) == ("nothing new", summary["serves"])
    edit(project / "params.yaml", {"finetune.lr": 1.0e-4})
    said = run(project, "cliptune", "retrain", fails=True)
    run(project, "git", "checkout", "params.yaml")
    assert "not committed: params.yaml. Commit them" in said


def test_a_param_runs_just_what_depends_on_it(project: Path) -> None:
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "The first result")
    before = run(project, "dvc", "status")
    output = run(project, "dvc", "exp", "run", "--name", "slow", "-S", "finetune.lr=1e-5")
    assert ran(output) == ["finetune", "evaluate", "record"], before + output
    shown = json.loads(run(project, "dvc", "exp", "show", "--json").split("\n", 0)[0])
    assert "slow" in json.dumps(shown)
    difference = json.loads(run(project, "dvc", "metrics", "diff", "--json"))
    assert "val_loss" in difference[
        "diff" if "diff" in difference else "metrics/finetune.json"
    ] or ("metrics/finetune.json" in json.dumps(difference))
    run(project, "dvc", "plots", "show", "--json")


def test_the_same_inputs_give_the_same_bytes_on_one_worker(project: Path, tmp_path: Path) -> None:
    """A second checkout, with nothing to reuse and one processor, ends in the same hashes."""
    run(project, "git", "checkout", "--quiet", "--force", "HEAD")
    again = checkout(tmp_path)
    run(again, "dvc", "repro", prefix=("taskset", "--cpu-list", "0"))
    assert hashes(again) == committed(project)


def committed(project: Path) -> dict[str, str]:
    """The hashes in the locks of the first result."""
    found = {}
    for lock in ("dvc.lock", "samples/dvc.lock"):
        text = run(project, "git", "show", f"main:{lock}")
        for stage in YAML(typ="safe").load(text)["stages"].values():
            found |= {out["path"]: out["md5"] for out in stage["outs"]}
    return {path: md5 for path, md5 in found.items() if not path.startswith("runs/")}


@pytest.mark.parametrize("key", ["data.source", "evaluate.general"])
def test_a_path_that_leads_nowhere_is_named_by_its_key(
    project: Path, tmp_path: Path, key: str
) -> None:
    """Under DVC itself, which would only say that a file is missing."""
    checkout(tmp_path)
    edit(tmp_path / "params.yaml", {key: "data/nowhere"})
    output = run(tmp_path, "dvc", "repro", fails=True)
    assert f"error: {key} is 'data/nowhere', which does not exist: set it to" in output
    assert "Traceback" not in output
    assert ran(output) == []


@pytest.fixture(scope="module")
def stages(project: Path) -> Iterator[Forked]:
    """The project's stages, imported once."""
    served = Forked(project, ["validate", "clean", "finetune", "evaluate"], environment_of(project))
    yield served
    served.close()


@pytest.mark.parametrize(
    "mistake",
    [
        ({"finetune.lr": "fast"}, "validate", "`finetune.lr` is 'fast'"),
        ({"data.source": "nowhere"}, "validate", "data.source is 'nowhere', which is not a folder"),
        ({"data.columns.caption": "text"}, "validate", "has no column 'text'"),
        ({"data.format": "coco"}, "validate", "data.format is 'coco'"),
        ({"clean.languages": ["english"]}, "clean", "clean.languages"),
        ({"data.image_root": "../.."}, "validate", "data.image_root is '../..'"),
        ({"validate.min_side": 5000}, "validate", "no row is left (image_too_small"),
        ({"clean.min_words": 290}, "clean", "no pair is left after cleaning"),
        ({"finetune.batch_size": 4096}, "finetune", "no batch is full, so no step"),
        ({"model.pretrained": "nowhere"}, "finetune", "no model at hub/nowhere"),
        ({"evaluate.general": "nowhere"}, "evaluate", "evaluate.general is 'nowhere'"),
    ],
    ids=lambda mistake: next(iter(mistake[0])),
)
def test_a_mistake_is_one_clear_message(
    project: Path, stages: Forked, tmp_path: Path, mistake: tuple[dict[str, Any], str, str]
) -> None:
    changes, stage, message = mistake
    folder, log = tmp_path / "project", tmp_path / "log"
    for name in ("params.yaml", "dvc.yaml", "data", "models", "metrics", "plots", "mlflow.db"):
        origin = project / name
        copy = shutil.copytree if origin.is_dir() else shutil.copy
        folder.mkdir(exist_ok=True)
        copy(origin, folder / name)
    (folder / "samples").symlink_to(project / "samples")
    outputs = {"validate": "data/valid", "clean": "data/clean", "finetune": "models/finetuned",
               "evaluate": "data/predictions"}  # fmt: skip
    shutil.rmtree(folder / outputs[stage])
    edit(folder / "params.yaml", changes)
    code, output = stages.run(folder, stage, log=log)
    assert code == 1, output
    assert message in output
    assert "Traceback" not in output
    assert "error: " in output
    assert not (folder / outputs[stage]).exists()
    assert not list((folder / outputs[stage]).parent.glob(".*.part"))
    assert not (folder / f"runs/{stage}.json").exists()
