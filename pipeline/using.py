"""What `cliptune predict` and `cliptune search` do with a bundle alone.

They work in any folder: no params.yaml is read and nothing is logged. What they need is imported
here and nowhere earlier, so that the command itself answers at once.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline import paths
from pipeline.artifacts import write_text
from pipeline.registry import predict as registry
from pipeline.registry.search import search_folder
from pipeline.reporting import hits, predictions


def predict(
    model: Path,
    images: Sequence[Path],
    *,
    classes: Sequence[str] | None,
    templates: Sequence[str] | None,
    top: int,
    max_pixels: int,
    as_json: bool,
) -> str:
    """What is to be printed of `images`; raises what `registry.predict.predict` does."""
    found = registry.predict(
        model, images, classes=classes, templates=templates, top=top, max_pixels=max_pixels
    )
    if as_json:
        return predictions.as_json(found.predictions, found.unread)
    told = [
        predictions.as_text(found.predictions),
        hits.passed_over(found.unread, pictures=len(found.predictions)),
    ]
    return "\n\n".join(part for part in told if part)


def search(text: str, model: Path, images: Path, *, top: int, max_pixels: int) -> str:
    """What is to be printed of a search; the page with pictures is written to `paths.SEARCHED`.

    Raises what `search_folder` does.
    """
    found = search_folder(text, model, images, count=top, max_pixels=max_pixels)
    described = hits.describe_files(found.hits, images)
    write_text(paths.SEARCHED, hits.as_page(text, described, model=str(model)))
    told = [
        hits.as_text(described),
        hits.passed_over(found.unread, pictures=found.pictures),
        f"with pictures: {paths.SEARCHED}",
    ]
    return "\n\n".join(part for part in told if part)
