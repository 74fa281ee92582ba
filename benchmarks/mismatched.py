"""How well the base model finds captions that belong to another picture.

Looks at the embeddings of the last `dvc repro` on the sample, which has such captions planted, and
at the training pairs alone, as `embed.mismatched` does. `make bench NAME=mismatched`.
"""

import json
import sys

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.data.pairs import read_pairs

TRUTH = "samples/scenes/truth.csv"
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1)


def main() -> None:
    """Print a table, then one line of JSON."""
    scores = pd.read_parquet(paths.EMBEDDINGS / "scores.parquet")
    truth = pd.read_csv(TRUTH, keep_default_na=False)
    wrong = set(truth.loc[truth["defect"] == "wrong_caption", "source_row"])
    pairs = read_pairs(paths.CLEAN).merge(scores, on="pair")
    pairs = pairs[pairs["split"] == "train"]
    planted = pairs["source_row"].isin(wrong).to_numpy()
    if not planted.any():
        sys.exit("the last run was not on the sample: `make repro` with data.source as in git")
    print(f"{len(pairs):,} training pairs, {planted.sum()} of them with another picture's caption")
    found = {name: _measured(pairs[name].to_numpy(), planted) for name in ("score", "fit")}
    for name, figures in found.items():
        print(f"\nby {name}: AUC {figures['auc']:.3f}")
        for share, (recall, precision) in figures["dropping"].items():
            print(f"  drop_share {share}: recall {recall:.2f}, precision {precision:.2f}")
    print(json.dumps({"pairs": len(pairs), "planted": int(planted.sum()), **found}))


def _measured(values: np.ndarray, planted: np.ndarray) -> dict:
    """The AUC, and recall and precision when the least values are dropped."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values))
    count = planted.sum()
    above = ranks[planted].sum() - count * (count - 1) / 2
    dropping = {}
    for share in SHARES:
        dropped = planted[order[: int(share * len(values))]]
        dropping[str(share)] = (float(dropped.sum() / count), float(dropped.mean()))
    auc = 1 - above / (count * (len(values) - count))
    return {"auc": float(auc), "dropping": dropping}


if __name__ == "__main__":
    main()
