"""Stage `validate`: the user's source → rows that can be trained on, and rejected rows."""

from pipeline import errors, paths
from pipeline.clip.tokens import token_counter
from pipeline.data.pairs import REJECTED_FILE
from pipeline.params import ValidateStage, load
from pipeline.tracking import stage_run
from pipeline.validation.validate import validate


def main() -> None:
    params = load(ValidateStage)
    with stage_run("validate", params) as run:
        tokens = token_counter(params.model)
        found = validate(
            params.data,
            params.limits,
            count_tokens=tokens.count,
            token_limit=tokens.limit,
            folder=paths.VALID,
            packed=paths.PACKED,
            quality=paths.QUALITY,
            accepted=paths.ACCEPTED,
            cache=paths.IMAGE_FACTS,
        )
        run.metrics(found)
        run.artifact(paths.VALID / REJECTED_FILE)
        run.artifact(paths.QUALITY, "quality")


if __name__ == "__main__":
    errors.run(main)
