"""Stage `finetune`: selected pairs and the base model → the fine-tuned bundle."""

from pathlib import Path

from pipeline import errors, paths
from pipeline.evaluation.retrieval import recalls
from pipeline.params import FinetuneStage, load
from pipeline.registry import bundle
from pipeline.tracking import stage_run
from pipeline.training.job import finetune
from stages import finetune_rank


def main() -> None:
    params = load(FinetuneStage)
    with stage_run("finetune", params) as run:
        tuned = finetune(
            paths.SELECTED,
            Path(params.source),
            params.finetune,
            packed=paths.PACKED,
            base=params.model,
            seed=params.seed,
            cpu_threads=params.cpu_threads,
            cache=paths.shared(paths.EMBEDDED),
            recalls=recalls,
            log=run.log,
            history_file=paths.HISTORY,
            checkpoints=paths.shared(paths.CHECKPOINTS),
            failed=paths.failed_folder("finetune"),
            crops=paths.shared(paths.CROPS),
            each=finetune_rank.__name__,
        )
        bundle.save(paths.FINETUNED, tuned.clip, record=tuned.record)
        tuned.checkpoints.clear()
        run.metrics(tuned.found)
        run.artifact(paths.HISTORY)


if __name__ == "__main__":
    errors.run(main)
