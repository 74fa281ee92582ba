"""Stage `embed`: clean pairs and the base model → embeddings and pair scores."""

from pathlib import Path

from pipeline import errors, paths
from pipeline.clip.embed_pairs import embed_pairs
from pipeline.data.pairs import REJECTED_FILE
from pipeline.params import EmbedStage, load
from pipeline.tracking import stage_run


def main() -> None:
    params = load(EmbedStage)
    with stage_run("embed", params) as run:
        found = embed_pairs(
            paths.CLEAN,
            Path(params.source),
            paths.EMBEDDINGS,
            paths.SELECTED,
            params.embed,
            packed=paths.PACKED,
            base=params.model,
            cpu_threads=params.cpu_threads,
            cache=paths.shared(paths.EMBEDDED),
            accepted=paths.ACCEPTED_EMBEDDINGS,
            projection_file=paths.PROJECTION,
        )
        run.metrics(found)
        run.artifact(paths.SELECTED / REJECTED_FILE)
        run.artifact(paths.PROJECTION)
        run.artifact(paths.EMBEDDINGS / "profile.json")


if __name__ == "__main__":
    errors.run(main)
