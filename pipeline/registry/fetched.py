"""The folder hub/: the pretrained tag that the pipeline starts from, or the word that it has none.

It is the output of a stage, and DVC's checkout and pull fail for an output that was never made. So
the stage runs for a model of the user's own too.
"""

from pathlib import Path

from pipeline.artifacts import write_text
from pipeline.clip import model
from pipeline.params import ModelParams
from pipeline.registry import bundle

NOTE = "README"


def fetched(base: ModelParams, hub: Path) -> None:
    """Fetch the tag that `base` names into `hub`; a path that leads out of it needs nothing.

    Raises ModelError as `model.fetch` does.
    """
    if base.pretrained.startswith(("../", "/")):
        text = f"model.pretrained is {base.pretrained}, a path from here: nothing was fetched.\n"
        write_text(hub / NOTE, text)
        return
    clip = model.fetch(base.name, base.pretrained)
    bundle.save(hub / base.pretrained, clip, record={"model": base.model_dump()})
