"""Stages whose runs look as the real ones do: `python stages/toy_result.py finetune|evaluate`."""

import sys
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import errors, paths
from pipeline.artifacts import write_json
from pipeline.params import Section
from pipeline.reporting.this_run import copy_for_run
from pipeline.tracking import stage_run

GRAPH = """\
stages:
  finetune:
    cmd: python stages/toy_result.py finetune
    params: [seed, finetune]
    deps: [data/raw, stages/toy_result.py]
    outs: [models/finetuned, runs/finetune.json]
    metrics: [metrics/finetune.json]
  evaluate:
    cmd: python stages/toy_result.py evaluate
    params: [seed, evaluate]
    deps: [models/finetuned, metrics/finetune.json, page, stages/toy_result.py]
    outs: [models/final, runs/evaluate.json]
    metrics: [metrics/evaluate.json]
  record:
    cmd: python -m stages.record
    deps: [runs/finetune.json, runs/evaluate.json]
    outs: [runs/pipeline.json]
"""

PARAMS = """\
seed: 7
finetune: {lr: 0.25, epochs: 4, method: full}
evaluate: {max_forgetting: 2.0}
"""

CONFIG = "open_clip_config.json"


class Finetune(Section):
    lr: float
    epochs: int
    method: str


class Evaluate(Section):
    max_forgetting: float


class FinetuneStage(Section):
    seed: int
    finetune: Finetune


class EvaluateStage(Section):
    seed: int
    evaluate: Evaluate


def finetune(params: FinetuneStage) -> None:
    with stage_run("finetune", params) as run:
        for epoch in range(params.finetune.epochs):
            run.log({"train_loss": 1 / (epoch + 1), "val_loss": 2 / (epoch + 2)}, step=epoch)
        model = {"model_cfg": {"text_cfg": {}}, "top1": 1 - params.finetune.lr}
        write_json(paths.FINETUNED / CONFIG, model)
        run.metrics({"best_epoch": params.finetune.epochs})


def evaluate(params: EvaluateStage) -> None:
    with stage_run("evaluate", params) as run:
        model = YAML(typ="safe", pure=True).load(paths.FINETUNED / CONFIG)
        write_json(paths.FINAL / CONFIG, model)
        gain = {"value": model["top1"] - 0.1, "low": model["top1"] - 0.2, "high": model["top1"]}
        target = {"base": {"top1": 0.1}, "final": {"top1": model["top1"]}, "gain": {"top1": gain}}
        run.metrics({"target": target, "alpha": 1.0, "choice": {"forgotten": 0.01}})
        run.artifact(copy_for_run(Path("page"), paths.REPORT_OF_RUN, run.facts), "report")
        run.model(paths.FINAL)


def main() -> None:
    content = YAML(typ="safe", pure=True).load(paths.PARAMS)
    if sys.argv[1] == "finetune":
        finetune(FinetuneStage(seed=content["seed"], finetune=content["finetune"]))
    else:
        evaluate(EvaluateStage(seed=content["seed"], evaluate=content["evaluate"]))


if __name__ == "__main__":
    errors.run(main)
