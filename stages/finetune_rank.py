"""One process of several that fine-tune; the stage `finetune` starts them, or torchrun does.

`torchrun … -m stages.finetune_rank` on each machine, then `dvc repro` (docs/scale.md).
"""

from pathlib import Path

from pipeline import errors, paths
from pipeline.evaluation.retrieval import recalls
from pipeline.params import FinetuneStage, load
from pipeline.training.rank import finetune


def main() -> None:
    params = load(FinetuneStage)
    finetune(
        paths.SELECTED,
        Path(params.source),
        params.finetune,
        packed=paths.PACKED,
        base=params.model,
        seed=params.seed,
        cpu_threads=params.cpu_threads,
        cache=paths.shared(paths.EMBEDDED),
        recalls=recalls,
        checkpoints=paths.shared(paths.CHECKPOINTS),
        failed=paths.failed_folder("finetune"),
        crops=paths.shared(paths.CROPS),
    )


if __name__ == "__main__":
    errors.run(main)
