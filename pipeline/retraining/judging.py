"""The verdict of a retraining, and its line in the history; nothing is fetched without need."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline import paths
from pipeline.history.promote import promote
from pipeline.history.registry import Registry, answering
from pipeline.params import RetrainCommand
from pipeline.retraining import record
from pipeline.retraining.commands import dvc, required
from pipeline.retraining.week import Week
from pipeline.tracking_runs import place
from pipeline.tracking_store import reach

NEEDED = (paths.FINAL, paths.CLEAN, paths.PACKED, paths.QUALITY / "profile.json",
          paths.EMBEDDINGS / "profile.json", paths.metrics_file("validate"))  # fmt: skip
"""What a promotion looks at, beside the pictures."""


def judge(root: Path, params: RetrainCommand, week: Week, *, remote: bool) -> None:
    """Promote, and write that into the history; `remote`: what is missing can be fetched.

    Raises what `promote` does, and DataError where a fetch fails.
    """
    receipt = paths.receipt_file("pipeline")
    if remote and not (root / receipt).is_file():
        required(dvc(root, "pull", receipt.as_posix()), "fetching the last run's receipt")
    fetch: Callable[[bool], None] = partial(_fetch, root, params) if remote else lambda _: None
    found, _ = promote(root, params, dry=week.dry, prepare=fetch)
    connection, _ = reach(root, lambda _: None)
    week.promotion, week.verdict, week.why = found, found.verdict, found.reasons
    week.place = place(connection, found.run)
    if found.challenger is not None and not week.dry:
        registry = Registry(connection, params.promote.model)
        with answering(connection):
            week.notes += record.rolled_back(root, registry.tags)
            record.recorded(root, found.challenger, registry.tags(found.challenger))


def _fetch(root: Path, params: RetrainCommand, served: bool) -> None:
    """Of what a promotion looks at, that which is not there."""
    named = [*NEEDED, Path(params.data.source), Path(params.evaluate.general)]
    if not served:  # then the base model is what the challenger is measured against
        from pipeline.clip.model import locate  # noqa: PLC0415 - seconds, which promote needs too

        named.append(locate(params.model.pretrained))
    missing = [path.as_posix() for path in named if not (root / path).exists()]
    if missing:
        required(dvc(root, "pull", *missing), "fetching the model and the test pictures")
