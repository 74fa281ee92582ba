"""Stage `evaluate`: base and fine-tuned model → the model to use, metrics, the report page."""

from pathlib import Path

from pipeline import errors, paths
from pipeline.data.sources.named import named_columns
from pipeline.evaluation.evaluate import evaluate
from pipeline.params import EvaluateStage, load
from pipeline.registry import bundle, card
from pipeline.reporting.quality import read_quality
from pipeline.reporting.table import prediction_table
from pipeline.reporting.this_run import copy_for_run
from pipeline.reporting.write import stage_metrics, write
from pipeline.tracking import stage_run


def main() -> None:
    params = load(EvaluateStage)
    with stage_run("evaluate", params) as run:
        found = evaluate(
            paths.CLEAN,
            Path(params.data.source),
            paths.FINETUNED,
            params.evaluate,
            packed=paths.PACKED,
            scratch=paths.GENERAL,
            base=params.model,
            seed=params.seed,
            cpu_threads=params.cpu_threads,
            columns=named_columns(
                params.data, params.evaluate.slices.columns, key="evaluate.slices.columns"
            ),
        )
        record = bundle.point(
            paths.FINETUNED,
            found.results,
            prompts=found.prompts,
            params={"evaluate": params.evaluate.model_dump()},
        )
        model_card = card.render(
            record,
            found.results,
            architecture=found.final.architecture,
            stages=stage_metrics(),
            params=params.evaluate.card,
            confidence=params.evaluate.confidence,
        )
        bundle.save(paths.FINAL, found.final, record=record, card=model_card)
        write(
            found.results,
            found.predictions,
            curve=found.curve,
            searches=found.searches,
            places=found.places,
            quality=read_quality(
                paths.VALID,
                paths.CLEAN,
                paths.QUALITY,
                source=Path(params.data.source),
                packed=paths.PACKED,
            ),
            params={"evaluate": params.evaluate.model_dump()},
        )
        run.metrics(found.results)
        run.artifact(copy_for_run(paths.REPORT.parent, paths.REPORT_OF_RUN, run.facts), "report")
        run.artifact(paths.FIGURES)
        run.table(prediction_table(found.predictions), "predictions.json")
        run.artifact(paths.PREDICTIONS, "predictions")
        run.model(paths.FINAL)


if __name__ == "__main__":
    errors.run(main)
