"""Pairs that say the same twice."""

import pandas as pd

from pipeline.data.pairs import caption_key


def repeats(pairs: pd.DataFrame) -> pd.Series:
    """Pairs whose image (by content) and caption an earlier pair has already: bool a pair.

    The same image under another path or with another caption is no repeat, nor is the same caption
    of another image: both are kept, and training counts them as each other's positives.
    """
    keys = pd.DataFrame({"image": pairs["image_id"], "caption": pairs["caption"].map(caption_key)})
    return keys.duplicated(keep="first")
