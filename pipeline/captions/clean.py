"""The clean stage's one call: valid pairs → clean captions, known duplicates, a stable split."""

from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from pipeline import paths
from pipeline.artifacts import new_folder, write_json
from pipeline.captions.apply import apply_rules
from pipeline.captions.coverage import coverage, judge
from pipeline.captions.frequent import frequent_phrases
from pipeline.captions.junk import drop_reasons
from pipeline.captions.leaking import Leaks, find_leaks, stop
from pipeline.captions.near import Near, find_near, near_repeats
from pipeline.captions.rules import in_order
from pipeline.data import splits
from pipeline.data.pairs import (
    EXAMPLES_FILE,
    LABELS_FILE,
    LEAK,
    LEAKS_FILE,
    NEAR_CAPTION,
    NEAR_CAPTIONS_FILE,
    NEAR_IMAGE,
    NEAR_IMAGES_FILE,
    SPLITS,
    caption_key,
    read_pairs,
    read_signatures,
    reason_counts,
    tally,
    write_stage,
    write_table,
)
from pipeline.errors import DataError
from pipeline.params import CleanParams

FAILED = paths.failed_folder("clean")


def clean(
    source: Path, folder: Path, params: CleanParams, *, seed: int, failed: Path = FAILED
) -> dict[str, Any]:
    """Clean the captions of the pairs in `source`, assign splits, write the result to `folder`.

    Returns read, accepted, rejected by reason, captions changed by rule, phrases found by
    frequency, near-duplicates, pairs and images a split, labels missing in a split;
    accepted + rejected = read. Raises DataError when no pair is left, when the user's split lacks a
    part that `clean.cut_from_train` does not name, for a leak where `clean.leaks` is stop, and for
    more missing labels than `clean.labels_missing` allows; what was found of these two is in
    `failed` then.
    """
    pairs = read_pairs(source)
    splits.require_parts(pairs["split"], shares=params.split, cut=params.cut_from_train)
    phrases = _frequent(pairs["caption"], params)
    rules = in_order(params, frequent=phrases)
    captions, changed, examples = apply_rules(pairs["caption"], rules)
    before = pairs["caption"]
    pairs["caption"] = captions
    near = find_near(*read_signatures(source), params)
    reasons = drop_reasons(captions, params)
    leaks = find_leaks(pairs[reasons.isna()], near.images, params, seed=seed)
    if params.leaks == "stop" and not leaks.table.empty:
        raise stop(leaks.table, failed=failed)
    reasons = reasons.fillna(leaks.reasons)
    reasons = reasons.fillna(_repeats(pairs[reasons.isna()]))
    kept = pairs[reasons.isna()]
    near_captions = near.captions(kept)
    if params.near_captions.same_image == "set_aside":
        reasons = reasons.fillna(near_repeats(kept, near_captions))
    accepted = _accepted(pairs[reasons.isna()], leaks, near)
    rejected = pairs[reasons.notna()]
    told = before[rejected.index]
    rejected = rejected.assign(reason=reasons[rejected.index], value=told, caption=told)
    if accepted.empty:
        raise DataError(
            f"no pair is left after cleaning ({reasons.value_counts().to_dict()}): the rejected "
            "captions and their reasons tell which rule in params.yaml, section clean, to loosen; "
            f"the first: row {rejected.source_row.iloc[0]}: {rejected.value.iloc[0]!r}"
        )
    covered = coverage(pairs["label"], accepted, shares=params.split)
    warned = judge(covered, params.labels_missing, folder=folder, failed=failed)
    with new_folder(folder) as part:
        write_json(part / LABELS_FILE, covered.as_dict())
        write_stage(part, accepted, rejected)
        write_table(leaks.table, LEAK, part / LEAKS_FILE)
        write_table(near.images, NEAR_IMAGE, part / NEAR_IMAGES_FILE)
        write_table(near_captions, NEAR_CAPTION, part / NEAR_CAPTIONS_FILE)
        rows = pairs["source_row"]
        write_json(
            part / EXAMPLES_FILE,
            {
                rule: [
                    {"source_row": int(rows.iloc[e.position]), "before": e.before, "after": e.after}
                    for e in listed
                ]
                for rule, listed in examples.items()
            },
        )
    found = {
        "read": len(pairs),
        "accepted": len(accepted),
        "rejected": reason_counts(reasons),
        "changed": changed,
        "frequent_phrases": phrases,
        "near_images": _counts(near.images),
        "near_captions": _counts(near_captions),
        "split": _split_counts(accepted),
        "labels": covered.counts(),
        "warned": ["labels_missing"] if warned else [],
    }
    for line in warned:
        tqdm.write(line)
    tqdm.write(tally(found, folder))
    return found


def _frequent(captions: pd.Series, params: CleanParams) -> list[str]:
    if params.strip_frequent is None:
        return []
    return frequent_phrases(captions, share=params.strip_frequent)


def _repeats(pairs: pd.DataFrame) -> pd.Series:
    """The reason of pairs whose image and caption an earlier pair has already.

    The same image under another path or with another caption is no repeat, nor is the same caption
    of another image: both are kept, and training counts them as each other's positives.
    """
    keys = pd.DataFrame({"image": pairs["image_id"], "caption": pairs["caption"].map(caption_key)})
    again = keys.duplicated(keep="first")
    return pd.Series("pair_repeated", index=pairs.index, dtype=object).where(again, None)


def _accepted(pairs: pd.DataFrame, leaks: Leaks, near: Near) -> pd.DataFrame:
    group = [near.group.get(image_id, image_id) for image_id in pairs["image_id"]]
    return pairs.assign(split=leaks.split[pairs.index], image_group=group)


def _counts(near: pd.DataFrame) -> dict[str, int]:
    """Pairs, members and groups of a table of near-duplicates."""
    members = pd.concat([near["a"], near["b"]])
    return {
        "pairs": len(near),
        "members": int(members.nunique()),
        "groups": int(near["group"].nunique()),
    }


def _split_counts(accepted: pd.DataFrame) -> dict[str, dict[str, int]]:
    by_split = accepted.groupby("split")["image_id"]
    pairs, images = by_split.size(), by_split.nunique()
    return {
        name: {"pairs": int(pairs.get(name, 0)), "images": int(images.get(name, 0))}
        for name in SPLITS
    }
