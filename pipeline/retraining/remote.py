"""Whether DVC's remote can be written to, found out before hours of training and not after them."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import lineage_gaps, paths
from pipeline.errors import DataError
from pipeline.lineage_dvc import CODE_FOLDERS
from pipeline.lineage_secrets import redact
from pipeline.retraining.commands import git
from pipeline.retraining.tree import DATA
from pipeline.tracking_store import first_line

NAME = "cliptune.txt"
TEXT = "`cliptune retrain` writes this file, to see before the work whether it may write here.\n"

TRAINED_FROM = (paths.PARAMS.as_posix(), ":(glob)**/dvc.yaml", DATA, *CODE_FOLDERS, "samples")
"""In git: where these change, something may be trained anew."""


def may_train(root: Path) -> bool:
    """Whether the commit differs from the last one with a new dvc.lock in what is trained from."""
    last = git(
        root,
        "log",
        "--max-count=1",
        "--format=%H",
        "--",
        paths.DVC_YAML.with_suffix(".lock").as_posix(),
    )
    return not last or bool(git(root, "diff", "--name-only", last, "HEAD", "--", *TRAINED_FROM))


def require_writable(root: Path) -> None:
    """Write a small file to DVC's default remote, always the same one.

    Raises DataError where that fails. A remote that keeps files under their own names is not tried.
    """
    from dvc.repo import Repo  # noqa: PLC0415 - a second

    try:
        with Repo(str(root)) as repo, TemporaryDirectory() as folder:
            remote = repo.cloud.get_remote()
            if remote.worktree or remote.fs.version_aware:
                return
            file = Path(folder) / NAME
            file.write_text(TEXT, encoding="utf-8")
            remote.fs.makedirs(remote.path, exist_ok=True)
            remote.fs.put_file(str(file), remote.fs.join(remote.path, NAME))
    except Exception as error:  # each kind of store has errors of its own
        where = lineage_gaps.remote([root / ".dvc"])
        keys = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, and s3:PutObject"
        of_s3 = f" ({keys})" if "s3://" in str(where) else ""
        raise DataError(
            f"writing to DVC's remote {where} failed: {redact(first_line(error))}; nothing was "
            f"computed. Look at that address and at what may be written there{of_s3}"
        ) from None
