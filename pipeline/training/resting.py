"""Which towers a fine-tune leaves as they are, so that they run but once, before training.

Needs no torch, so that the doctor can ask it too.
"""

from pipeline.params import FinetuneParams


def resting(params: FinetuneParams) -> frozenset[str]:
    """The towers, image and text, below whose heads nothing trains: training looks them up."""
    if params.method == "head":
        return frozenset({"image", "text"})
    if params.method != "lit":
        return frozenset()
    extents = {"image": params.lock.image, "text": params.lock.text}
    return frozenset(tower for tower, extent in extents.items() if extent == "all")


def pulled(params: FinetuneParams) -> frozenset[str]:
    """The towers whose embeddings move, and are pulled toward the base's by `distil`."""
    if not params.distil:
        return frozenset()
    still = frozenset() if params.method == "head" else resting(params)
    return frozenset({"image", "text"}) - still
