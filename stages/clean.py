"""Stage `clean`: valid pairs → clean captions, no repeats, a stable split."""

from pipeline import errors, paths
from pipeline.captions.clean import clean
from pipeline.data.pairs import EXAMPLES_FILE, LEAKS_FILE, REJECTED_FILE
from pipeline.params import CleanStage, load
from pipeline.tracking import stage_run


def main() -> None:
    params = load(CleanStage)
    with stage_run("clean", params) as run:
        run.metrics(clean(paths.VALID, paths.CLEAN, params.clean, seed=params.seed))
        run.artifact(paths.CLEAN / REJECTED_FILE)
        run.artifact(paths.CLEAN / LEAKS_FILE)
        run.artifact(paths.CLEAN / EXAMPLES_FILE)


if __name__ == "__main__":
    errors.run(main)
