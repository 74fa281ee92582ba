"""Of each kind of defect planted in the sample: how many were caught, and what good rows it cost.

Makes the sample anew, runs validate and clean on it with the params in params.yaml, and compares
with the sample's own list of what was planted. `make bench NAME=defects`.
"""

import json
import sys
import tempfile
from pathlib import Path

import pandas as pd

from pipeline import params as params_of
from pipeline.captions.clean import clean
from pipeline.clip import model
from pipeline.clip.embed import truncated
from pipeline.data.pairs import caption_key, read_pairs, read_rejected
from pipeline.params import Params
from pipeline.validation.validate import validate
from samples import params as sample_params
from samples.scenes.make import make

REJECTED = (
    "truncated_jpeg", "zero_bytes", "text_as_jpg", "one_pixel", "huge_dimensions", "missing_file",
    "empty_caption", "repeated_caption",
)  # fmt: skip
CLEANED = ("html_tags", "html_entities", "mojibake", "url", "email", "hashtags", "boilerplate")
COPIES = ("exact_copy", "reencoded_copy", "rescaled_copy", "cropped_copy", "brightness_copy")
HARMLESS = ("png_as_jpg",)
RECALL, LOST = 0.99, 0.005


def main() -> None:
    """Print a row a kind, then one line of JSON; exit 1 when a goal is missed."""
    params = params_of.load(Params)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, truth_file = folder / "source", folder / "truth.csv"
        make(sample_params.load().scenes, source, truth_file, processes=2)
        data = params.data.model_copy(update={"source": str(source)})
        validate(data, params.limits, folder / "valid")
        clean(folder / "valid", folder / "clean", params.clean, seed=params.seed)
        rows = _rows(source, truth_file, folder)
    kinds = {kind: _kind(kind, rows[rows["defect"] == kind], rows) for kind in _all_kinds(rows)}
    good = rows[rows["defect"].isna()]
    lost = int((good["reason"].notna() & ~good["said_elsewhere"]).sum())
    changed = int((good["reason"].isna() & (good["caption"] != good["cleaned"])).sum())
    for kind, found in kinds.items():
        print(f"{kind:<18}{found['planted']:>6}{found['caught']:>6}  {found['how']}")
    repeats = int((good["reason"].notna() & good["said_elsewhere"]).sum())
    print(f"{'good rows':<18}{len(good):>6}{lost:>6}  lost; {changed} captions changed; ", end="")
    print(f"{repeats} set aside whose image and caption another row keeps")
    goals = {
        "recall": {
            "goal": RECALL,
            "least": min(kinds[k]["caught"] / kinds[k]["planted"] for k in (*REJECTED, *CLEANED)),
        },
        "good_rows_lost": {"goal": LOST, "share": (lost + changed) / len(good)},
    }
    print(json.dumps({"kinds": kinds, "good": len(good), "lost": lost, "goals": goals}))
    met = goals["recall"]["least"] >= RECALL and goals["good_rows_lost"]["share"] <= LOST
    sys.exit(0 if met else 1)


def _rows(source: Path, truth_file: Path, folder: Path) -> pd.DataFrame:
    """Each row of the source: its defect, what became of it, and where its image ended."""
    rows = pd.read_csv(source / "captions.csv", keep_default_na=False)
    rows["source_row"] = range(1, len(rows) + 1)
    truth = pd.read_csv(truth_file, keep_default_na=False)[["source_row", "defect", "detail", "of"]]
    rejected = pd.concat([read_rejected(folder / "valid"), read_rejected(folder / "clean")])
    valid = read_pairs(folder / "valid")[["source_row", "image_id"]]
    kept = read_pairs(folder / "clean")[["source_row", "caption", "split"]]
    merged = (
        rows.merge(truth, on="source_row", how="left")
        .merge(rejected[["source_row", "reason"]], on="source_row", how="left")
        .merge(kept.rename(columns={"caption": "cleaned"}), on="source_row", how="left")
        .merge(valid, on="source_row", how="left")
    )
    pairs = list(zip(merged["image_id"], merged["caption"].map(caption_key), strict=True))
    told = zip(merged["image_id"], merged["cleaned"].fillna("").map(caption_key), strict=True)
    kept_pairs = {
        pair for pair, split in zip(told, merged["split"], strict=True) if isinstance(split, str)
    }
    return merged.assign(said_elsewhere=[pair in kept_pairs for pair in pairs])


def _all_kinds(rows: pd.DataFrame) -> list[str]:
    known = [*REJECTED, *CLEANED, *COPIES, "long_caption", "wrong_caption", *HARMLESS]
    unknown = set(rows["defect"].dropna()) - set(known)
    if unknown:
        raise ValueError(f"the sample plants what this benchmark does not know: {unknown}")
    return known


def _kind(kind: str, planted: pd.DataFrame, rows: pd.DataFrame) -> dict[str, object]:
    caught, how = _caught(kind, planted, rows)
    return {"planted": len(planted), "caught": caught, "how": how}


def _caught(kind: str, planted: pd.DataFrame, rows: pd.DataFrame) -> tuple[int, str]:
    rejected = planted["reason"].notna()
    if kind in REJECTED:
        return int(rejected.sum()), f"rejected: {planted['reason'].value_counts().to_dict()}"
    if kind in CLEANED:
        cleaned = planted["cleaned"].fillna("").map(caption_key)
        same = cleaned == planted["detail"].map(caption_key)
        repeat = planted["reason"] == "pair_repeated"
        return int((same | repeat).sum()), (
            f"cleaned to the caption it was before, {int(repeat.sum())} of them then a repeat"
        )
    if kind in COPIES:
        return _copies(kind, planted, rows)
    if kind == "long_caption":
        clip = model.create("scenes-resnet", Path("samples/base_model/scenes-resnet.json"), seed=0)
        return truncated(clip, list(planted["cleaned"].dropna()), batch_size=256), (
            "counted as cut to the model's context length"
        )
    if kind == "wrong_caption":
        return int(rejected.sum()), "not looked for yet: needs embeddings"
    return int((~rejected).sum()), "harmless, and kept"


def _copies(kind: str, planted: pd.DataFrame, rows: pd.DataFrame) -> tuple[int, str]:
    """A copy is caught where it is set aside or stands on its original's side of the split."""
    kept = rows.dropna(subset=["split"]).drop_duplicates("image").set_index("image")
    known = planted[planted["of"].isin(kept.index)]
    across = known["split"].notna() & (known["split"] != known["of"].map(kept["split"]))
    if kind == "exact_copy":
        return int(len(planted) - across.sum()), f"on one side; {int(across.sum())} leak"
    return 0, f"not looked for yet; {int(across.sum())} stand across the split"


if __name__ == "__main__":
    main()
