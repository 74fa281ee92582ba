"""Of each kind of defect planted: how many were caught, and what good rows it cost.

Makes the sample anew, whose own list tells what was planted in it; and plants the same kinds on
real photographs, where they lie beside the checkout. Runs validate and clean on each with the
params in params.yaml. `make bench NAME=defects`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.planting import plant
from pipeline import params as params_of
from pipeline.captions.clean import clean
from pipeline.clip import model
from pipeline.clip.embed import truncated
from pipeline.data.pairs import NEAR_IMAGES_FILE, caption_key, read_pairs, read_rejected
from pipeline.params import Params
from pipeline.validation.validate import validate
from samples import params as sample_params
from samples.scenes.make import make

REJECTED = (
    "truncated_jpeg", "zero_bytes", "text_as_jpg", "one_pixel", "huge_dimensions", "missing_file",
    "empty_caption", "repeated_caption",
)  # fmt: skip
CLEANED = ("html_tags", "html_entities", "mojibake", "url", "email", "hashtags", "boilerplate")
NEAR = ("reencoded_copy", "rescaled_copy", "cropped_copy", "brightness_copy")
OTHER = ("exact_copy", "long_caption", "wrong_caption", "png_as_jpg")
GOALS = {"recall": 0.99, "precision": 0.995, "near_recall": 0.95, "near_precision": 0.99}
REAL = Path(__file__).parents[2] / "shared" / "real"
EACH = 60


def main() -> None:
    """Print a table a data set, then one line of JSON; exit 1 when a goal is missed."""
    params = params_of.load(Params)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, truth = folder / "scenes" / "source", folder / "scenes" / "truth.csv"
        make(sample_params.load().scenes, source, truth, processes=2)
        found["sample"] = measure(
            "sample", source, pd.read_csv(truth, keep_default_na=False), params
        )
        for real in sorted(REAL.iterdir()) if REAL.is_dir() else []:
            if real.is_dir():
                rows = pd.read_csv(real / "captions.csv", keep_default_na=False)
                source = folder / real.name / "source"
                truth_rows = plant(rows, real / "images", source, each=EACH)
                found[real.name] = measure(real.name, source, truth_rows, params)
    met = all(goal["met"] for scores in found.values() for goal in scores["goals"].values())
    print(json.dumps(found))
    sys.exit(0 if met else 1)


def measure(name: str, source: Path, truth: pd.DataFrame, params: Params) -> dict[str, Any]:
    """Run validate and clean on `source`, print a row a kind, and score them by the truth."""
    folder = source.parent
    data = params.data.model_copy(
        update={"source": str(source), "columns": params.data.columns.model_copy(
            update={"split": None})}
    )  # fmt: skip
    validate(
        data, params.limits, count_tokens=lambda texts: np.ones(len(texts), np.int64),
        token_limit=77, folder=folder / "valid", packed=folder / "packed",
        quality=folder / "quality", accepted=Path("data/accepted.json"), cache=None,
    )  # fmt: skip
    clean(folder / "valid", folder / "clean", params.clean, seed=params.seed)
    rows = _rows(source, truth, folder)
    kinds = {kind: _kind(kind, rows[rows["defect"] == kind], rows) for kind in _all_kinds(rows)}
    good = rows[rows["defect"].isna()]
    lost = good[good["reason"].notna() & ~good["said_elsewhere"] & ~good["near_reason"]]
    changed = good[good["reason"].isna() & (good["caption"] != good["cleaned"])]
    print(f"\n{name}: {len(rows):,} rows")
    for kind, scored in kinds.items():
        print(f"{kind:<18}{scored['planted']:>6}{scored['caught']:>6}  {scored['how']}")
    print(f"{'good rows':<18}{len(good):>6}{len(lost):>6}  lost; {len(changed)} captions changed")
    for row in lost.head(3).itertuples():
        print(f"  lost: row {row.source_row}: {row.reason}: {row.caption!r}")
    for row in changed.head(3).itertuples():
        print(f"  changed: row {row.source_row}: {row.caption!r} -> {row.cleaned!r}")
    near = _near_precision(rows, folder)
    print(
        f"{'near pictures':<18}{near['pairs']:>6}{near['true']:>6}  pairs found; true by the truth"
    )
    return {"kinds": kinds, "good": len(good), "lost": len(lost), "changed": len(changed),
            "near": near, "goals": _goals(name, kinds, len(lost) + len(changed), near)}  # fmt: skip


def _goals(name: str, kinds: dict[str, Any], wrong: int, near: dict[str, int]) -> dict[str, Any]:
    """Real photographs have near-duplicates of their own: no list tells which pairs are wrong."""

    def least(names: tuple[str, ...]) -> float:
        return min(kinds[k]["caught"] / kinds[k]["planted"] for k in names if k in kinds)

    caught = sum(kinds[k]["caught"] for k in (*REJECTED, *CLEANED) if k in kinds)
    figures = {
        "recall": least((*REJECTED, *CLEANED)),
        "precision": caught / (caught + wrong),
        "near_recall": least(NEAR),
    }
    if name == "sample":
        figures["near_precision"] = near["true"] / near["pairs"]
    return {
        name: {"figure": figure, "goal": GOALS[name], "met": figure >= GOALS[name]}
        for name, figure in figures.items()
    }


def _rows(source: Path, truth: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Each row of the source: its defect, what became of it, and where its image ended."""
    rows = pd.read_csv(source / "captions.csv", keep_default_na=False)
    rows["source_row"] = range(1, len(rows) + 1)
    rejected = pd.concat([read_rejected(folder / "valid"), read_rejected(folder / "clean")])
    valid = read_pairs(folder / "valid")[["source_row", "image_id"]]
    kept = read_pairs(folder / "clean")[["source_row", "caption", "split", "image_group"]]
    merged = (
        rows.merge(truth[["source_row", "defect", "detail", "of"]], on="source_row", how="left")
        .merge(rejected[["source_row", "reason"]], on="source_row", how="left")
        .merge(kept.rename(columns={"caption": "cleaned"}), on="source_row", how="left")
        .merge(valid, on="source_row", how="left")
    )
    pairs = list(zip(merged["image_id"], merged["caption"].map(caption_key), strict=True))
    told = zip(merged["image_id"], merged["cleaned"].fillna("").map(caption_key), strict=True)
    kept_pairs = {
        pair for pair, split in zip(told, merged["split"], strict=True) if isinstance(split, str)
    }
    near = merged["reason"].isin(["near_image_in_two_splits", "image_in_two_splits"])
    return merged.assign(said_elsewhere=[pair in kept_pairs for pair in pairs], near_reason=near)


def _all_kinds(rows: pd.DataFrame) -> list[str]:
    planted = set(rows["defect"].dropna())
    known = [*REJECTED, *CLEANED, *NEAR, *OTHER]
    if planted - set(known):
        raise ValueError(f"planted is what this benchmark does not know: {planted - set(known)}")
    return [kind for kind in known if kind in planted]


def _kind(kind: str, planted: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Any]:
    caught, how = _caught(kind, planted, rows)
    return {"planted": len(planted), "caught": caught, "how": how}


def _caught(kind: str, planted: pd.DataFrame, rows: pd.DataFrame) -> tuple[int, str]:
    rejected = planted["reason"].notna()
    if kind in REJECTED:
        return int(rejected.sum()), f"rejected: {planted['reason'].value_counts().to_dict()}"
    if kind in CLEANED:
        cleaned = planted["cleaned"].fillna("").map(caption_key)
        same = cleaned == planted["detail"].map(caption_key)
        aside = planted["reason"].isin(["pair_repeated"]) | planted["near_reason"]
        return int((same | aside).sum()), (
            f"cleaned to the caption it was before, {int(aside.sum())} of them then set aside"
        )
    if kind in (*NEAR, "exact_copy"):
        return _copies(planted, rows)
    if kind == "long_caption":
        clip = model.create("scenes-resnet", Path("samples/base_model/scenes-resnet.json"), seed=0)
        return truncated(clip, list(planted["cleaned"].dropna()), batch_size=256), (
            "counted as cut to the model's context length"
        )
    if kind == "wrong_caption":
        return int(rejected.sum()), "not looked for yet: needs embeddings"
    return int((~rejected).sum()), "harmless, and kept"


def _copies(planted: pd.DataFrame, rows: pd.DataFrame) -> tuple[int, str]:
    """A copy is caught where it or its original is set aside, or both share group and split."""
    first = rows.dropna(subset=["split"]).drop_duplicates("image").set_index("image")
    of = planted["of"]
    gone = planted["split"].isna() | ~of.isin(first.index)
    together = planted["image_group"] == of.map(first["image_group"])
    across = ~gone & (planted["split"] != of.map(first["split"]))
    caught = gone & (planted["reason"].notna() | ~of.isin(first.index)) | (together & ~across)
    return int(caught.sum()), (
        f"{int(gone.sum())} set aside, {int((together & ~gone).sum())} in their original's group; "
        f"{int(across.sum())} leak"
    )


def _near_precision(rows: pd.DataFrame, folder: Path) -> dict[str, int]:
    """Of the pairs of near-duplicates found, how many are copies of one picture."""
    near = pq.read_table(folder / "clean" / NEAR_IMAGES_FILE).to_pandas()
    known = rows.dropna(subset=["image_id"])
    origin = known["of"].where(
        known["defect"].isin([*NEAR, "exact_copy", "png_as_jpg"]), known["image"]
    )
    picture = dict(zip(known["image_id"], origin.fillna(known["image"]), strict=True))
    contents = rows.dropna(subset=["image_id"]).drop_duplicates("image").set_index("image")
    content = contents["image_id"].to_dict()

    def root(image_id: str) -> str:
        """The content of the picture that this one was made from."""
        return content.get(picture[image_id], image_id)

    true = [root(a) == root(b) for a, b in zip(near["a"], near["b"], strict=True)]
    return {"pairs": len(near), "true": sum(true)}


if __name__ == "__main__":
    main()
