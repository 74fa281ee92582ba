"""Stage `validate`: the user's source → rows that can be trained on, and rejected rows."""

from pipeline import errors, paths
from pipeline.data.pairs import REJECTED_FILE
from pipeline.params import ValidateStage, load
from pipeline.tracking import stage_run
from pipeline.validation.validate import validate


def main() -> None:
    params = load(ValidateStage)
    with stage_run("validate", params) as run:
        run.metrics(validate(params.data, params.limits, paths.VALID))
        run.artifact(paths.VALID / REJECTED_FILE)


if __name__ == "__main__":
    errors.run(main)
