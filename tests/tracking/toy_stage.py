"""A stage of the toy pipeline of these tests: `python stages/toy_stage.py NAME IN OUT`."""

import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import errors
from pipeline.params import Section
from pipeline.tracking import StageRun, stage_run


class Prepare(Section):
    lines: int
    words: list[str]


class Train(Section):
    lr: float
    epochs: int
    sleep: float


class PrepareStage(Section):
    seed: int
    prepare: Prepare


class TrainStage(Section):
    seed: int
    train: Train


KINDS: dict[str, type[PrepareStage] | type[TrainStage]] = {
    "prepare": PrepareStage,
    "train": TrainStage,
}


def main() -> None:
    name, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    content = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    kind = KINDS[name]
    params = kind.model_validate({key: content[key] for key in kind.model_fields})
    with stage_run(name, params) as run:
        text = source.read_text() if source.is_file() else (source / "rows.txt").read_text()
        found = {"rows": len(text.splitlines()), "best": "b", "reason": None}
        # `lines` of prepare changes nothing in what it writes.
        last = params if isinstance(params, TrainStage) else params.prepare.words
        if isinstance(params, TrainStage):
            found["target"] = {"base": {"top1": 0.25}, "finetuned": {"top1": train(run, params)}}
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"{text}{last}\n")
        run.metrics(found)
        run.artifact(target)


def train(run: StageRun, params: TrainStage) -> float:
    if params.train.epochs < 1:
        raise errors.TrainingError("train.epochs is 0: there is nothing to train")
    for epoch in range(params.train.epochs):
        run.log({"loss": 1 / (epoch + 1)}, step=epoch)
    time.sleep(params.train.sleep)
    return 1 - params.train.lr


if __name__ == "__main__":
    errors.run(main)
