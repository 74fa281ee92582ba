"""Stage `evaluate`: base and fine-tuned model → metrics with intervals, plots, the report page."""

from pathlib import Path

from pipeline import errors, paths
from pipeline.evaluation.evaluate import evaluate
from pipeline.params import EvaluateStage, load
from pipeline.reporting.write import write
from pipeline.tracking import stage_run


def main() -> None:
    params = load(EvaluateStage)
    with stage_run("evaluate", params) as run:
        found = evaluate(
            paths.CLEAN,
            Path(params.source),
            paths.FINETUNED,
            params.evaluate,
            base=params.model,
            seed=params.seed,
            cpu_threads=params.cpu_threads,
        )
        write(
            found.results,
            found.predictions,
            image_roots=found.roots,
            params={"evaluate": params.evaluate.model_dump()},
        )
        run.metrics(found.results)
        run.artifact(paths.REPORT, "report")
        run.artifact(paths.PREDICTIONS, "predictions")


if __name__ == "__main__":
    errors.run(main)
