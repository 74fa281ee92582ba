"""The clean stage's one call: valid pairs → clean captions, no repeats, a stable split."""

from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from pipeline.artifacts import new_folder
from pipeline.captions import rules
from pipeline.captions.duplicates import repeats
from pipeline.data import splits
from pipeline.data.pairs import SPLITS, read_pairs, reason_counts, tally, write_stage
from pipeline.errors import DataError
from pipeline.params import CleanParams


def clean(source: Path, folder: Path, params: CleanParams, *, seed: int) -> dict[str, Any]:
    """Clean the captions of the pairs in `source`, assign splits, write the result to `folder`.

    Returns read, accepted, rejected by reason, captions changed by rule, pairs and images a split;
    accepted + rejected = read. Raises DataError when no pair is left.
    """
    pairs = read_pairs(source)
    captions, changed = apply(pairs["caption"], rules.in_order(params))
    cleaned = pairs.assign(caption=captions)
    reasons = _reasons(cleaned, params, seed=seed)
    accepted = _with_split(cleaned[reasons.isna()], params, seed=seed)
    rejected = _rejected(cleaned, pairs["caption"], reasons)
    if accepted.empty:
        raise DataError(
            f"no pair is left after cleaning ({reasons.value_counts().to_dict()}): the rejected "
            "captions and their reasons tell which rule in params.yaml, section clean, to loosen; "
            f"the first: row {rejected.source_row.iloc[0]}: {rejected.value.iloc[0]!r}"
        )
    with new_folder(folder) as part:
        write_stage(part, accepted, rejected)
    by_split = accepted.groupby("split")["image_id"]
    found = {
        "read": len(pairs),
        "accepted": len(accepted),
        "rejected": reason_counts(reasons),
        "changed": changed,
        "split": {
            name: {
                "pairs": int(by_split.size().get(name, 0)),
                "images": int(by_split.nunique().get(name, 0)),
            }
            for name in SPLITS
        },
    }
    tqdm.write(tally(found, folder))
    return found


def apply(captions: pd.Series, listed: dict[str, rules.Rule]) -> tuple[pd.Series, dict[str, int]]:
    """Apply the rules in order; return the captions and how many each rule changed."""
    changed = {}
    for name, rule in listed.items():
        after = captions.map(rule)
        changed[name] = int((after != captions).sum())
        captions = after
    return captions, changed


def _reasons(cleaned: pd.DataFrame, params: CleanParams, *, seed: int) -> pd.Series:
    """Why a pair is rejected, or null: the first reason that holds."""
    words = cleaned["caption"].map(lambda caption: len(caption.split()))
    reasons = pd.Series(None, index=cleaned.index, dtype=object)
    tests = {
        "caption_empty_after_cleaning": words == 0,
        "caption_too_short": words < params.min_words,
        "caption_too_long": words > params.max_words,
    }
    for name, holds in tests.items():
        reasons[reasons.isna() & holds] = name
    left = cleaned[reasons.isna()]
    reasons[left.index[splits.leaks(_with_split(left, params, seed=seed))]] = "image_in_two_splits"
    left = cleaned[reasons.isna()]
    reasons[left.index[repeats(left)]] = "pair_repeated"
    return reasons


def _with_split(pairs: pd.DataFrame, params: CleanParams, *, seed: int) -> pd.DataFrame:
    return pairs.assign(split=splits.assign(pairs, seed=seed, shares=params.split))


def _rejected(cleaned: pd.DataFrame, before: pd.Series, reasons: pd.Series) -> pd.DataFrame:
    """Rejected rows with the caption as it came: what offended is what the user wrote."""
    rows = cleaned[reasons.notna()]
    return rows.assign(
        reason=reasons[reasons.notna()],
        value=before[rows.index],
        caption=before[rows.index],
    )
