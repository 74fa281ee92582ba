"""Copies of this repository, and edits of its params."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def edit(file: Path, changes: dict[str, Any]) -> None:
    """Set keys of a YAML file, by their dotted names."""
    yaml = YAML()
    content = yaml.load(file)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    yaml.dump(content, file)


def files_of(root: Path, folder: Path) -> None:
    """The files that git tracks, or would, as a repository's first commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file() and not name.endswith("dvc.lock"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
