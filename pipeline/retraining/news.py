"""What is new in the data since the model that was trained last."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from pipeline import paths
from pipeline.data.pairs import IMAGES_FILE, REJECTED_FILE
from pipeline.errors import DataError
from pipeline.history.diff_data import compare_pairs
from pipeline.lineage_dvc import CODE_FOLDERS, overlap
from pipeline.registry import trees
from pipeline.registry.processes import differing, status
from pipeline.retraining.commands import git

PAIRS = "pairs.parquet"
COLUMNS = ["image_id", "image", "caption", "label", "split"]


@dataclass(frozen=True)
class News:
    """Counts of pictures.

    Attributes:
        pictures: that the data have now.
        added, gone: since the commit, in the clean pairs.
        changed: that have other captions or another label.
        rejected, set_aside: of those that are gone the ones that the source still has, which
            `validate` or `clean` left out; None: not known, since data/valid is not here.
    """

    pictures: int
    added: int
    gone: int
    changed: int
    rejected: int | None = 0
    set_aside: int | None = 0

    @property
    def new(self) -> int:
        """Pictures that a training would see otherwise than the last one did."""
        return self.added + self.gone + self.changed


def news(root: Path) -> News | None:
    """The clean pairs of now against those of the commit; None: the commit has none."""
    now = root / paths.CLEAN / PAIRS
    digest = _digest(git(root, "show", "HEAD:./dvc.lock", check=False))
    if digest is None or not now.is_file():
        return None
    files = trees.cached(root, digest) or _fetched(root, digest)
    if files is None:
        return None
    before = pd.read_parquet(files[PAIRS], columns=COLUMNS)
    after = pd.read_parquet(now, columns=COLUMNS)
    _, counts = compare_pairs(before, after)
    rejected, set_aside = _left_out(root, before[~before["image_id"].isin(after["image_id"])])
    return News(
        pictures=counts["pictures"][1],
        added=counts["added"],
        gone=counts["removed"],
        changed=counts["other_captions"] + counts["other_label"],
        rejected=rejected,
        set_aside=set_aside,
    )


def _left_out(root: Path, gone: pd.DataFrame) -> tuple[int | None, int | None]:
    """Of pictures that are gone, how many `validate` rejected by name, and `clean` set aside."""
    valid, rejected = (root / paths.VALID / name for name in (IMAGES_FILE, REJECTED_FILE))
    if not (valid.is_file() and rejected.is_file()):
        return None, None
    ids = gone["image_id"].isin(pd.read_parquet(valid, columns=["image_id"])["image_id"])
    names = gone["image"].isin(pd.read_parquet(rejected, columns=["image"])["image"].dropna())
    return (
        int(gone.loc[names & ~ids, "image_id"].nunique()),
        int(gone.loc[ids, "image_id"].nunique()),
    )


def only_data(root: Path, pretrained: str) -> bool:
    """Whether nothing but data differs from what the stages ran with last, as DVC sees it.

    `pretrained` is model.pretrained: a change of the base model is no news of the data.
    """
    base = posixpath.normpath(f"{paths.HUB}/{pretrained}")
    try:
        found = _differences(status(root))
    except DataError:
        return False
    return not any(_is_code(name, base) for name in found)


def _differences(found: Mapping[str, Any]) -> list[str]:
    """The dependencies that changed; the word `command` where that did."""
    return ["command" if path is None else path for _, path, _ in differing(found)]


def _is_code(name: str, base: str) -> bool:
    """Code, params, the base model, or a command: what makes a training another one."""
    return (
        name in ("command", paths.PARAMS.as_posix())
        or name.endswith(".py")
        or any(overlap(name, other) for other in (*CODE_FOLDERS, paths.HUB.as_posix(), base))
    )


def _digest(lock: str) -> str | None:
    """DVC's hash of the clean pairs in the text of a dvc.lock."""
    stages = (YAML(typ="safe", pure=True).load(lock) or {}).get("stages", {}) if lock else {}
    outs = stages.get("clean", {}).get("outs", ())
    return next((out["md5"] for out in outs if out["path"] == paths.CLEAN.as_posix()), None)


def _fetched(root: Path, digest: str) -> dict[str, Path] | None:
    """From the remote, as the commit has them."""
    folder = root / paths.WORK / "retrain/fetch"
    try:
        with (
            trees.worktree(root, git(root, "rev-parse", "HEAD"), folder) as tree,
            TemporaryDirectory() as nothing,
        ):
            trees.fetch(tree, root, patch=b"", sources=Path(nothing), path=paths.CLEAN.as_posix())
    except DataError:
        return None
    return trees.cached(root, digest)
