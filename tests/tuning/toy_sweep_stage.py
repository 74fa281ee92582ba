"""A stage of the toy pipeline of a sweep: `python stages/toy_sweep_stage.py NAME [runs]`."""

import json
import math
import os
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import errors, paths
from pipeline.params import FinetuneStage, load
from pipeline.tracking import stage_run


def main() -> None:
    name, *runs = sys.argv[1:]
    with paths.shared(paths.WORK / "calls").open("a") as file:
        file.write(f"{name}\n")
    if name == "embed":
        text = Path("data/raw/rows.txt").read_text()
        write("data/selected/pairs.txt", text)
    elif name == "finetune":
        found = trained()
        if runs:
            with stage_run("finetune", load(FinetuneStage)) as run:
                run.metrics(found)
        else:
            write("metrics/finetune.json", json.dumps(found))
            write("runs/finetune.json", "{}")
        write("models/finetuned/model.txt", f"{found}\n")
    else:
        value = json.loads(Path("metrics/finetune.json").read_text())["val_mean_r1"]
        choice = {"metric": "top1", "validation": value / 2}
        write("metrics/evaluate.json", json.dumps({"choice": choice, "target": {"top1": 1.0}}))
        write("models/final/model.txt", f"{value}\n")


def trained() -> dict[str, float]:
    """The nearer lr is to 1e-3, the better; none above 1 ends. While all are held it waits, until
    DVC ends: a stage with a run watches it too.
    """
    dvc = os.getppid()
    lr = YAML(typ="safe", pure=True).load(Path("params.yaml"))["finetune"]["lr"]
    if lr > 1:
        raise errors.TrainingError(f"the loss is nan, at learning rate {lr:.2g}")
    while paths.shared(paths.WORK / "hold").exists():
        if os.getppid() != dvc:
            sys.exit("DVC has ended")
        time.sleep(0.1)
    return {"val_loss": abs(math.log10(lr) + 3), "val_mean_r1": 1 - abs(math.log10(lr) + 3) / 10}


def write(file: str, text: str) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)


if __name__ == "__main__":
    errors.run(main)
