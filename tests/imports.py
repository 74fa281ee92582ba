"""Which of the project's files a module imports, found by reading, not by running."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "stages", "samples")
UNTRACKED = ("pipeline/tracking", "pipeline/lineage", "pipeline/recording")
"""How a run is logged does not change what it computes: pipeline/tracking.py says so."""


def file_of(module: str) -> str | None:
    """The file of a module of ours, from the root; None for packages and what is not ours."""
    path = Path(*module.split(".")).with_suffix(".py")
    return path.as_posix() if (ROOT / path).is_file() else None


def imported_by(file: str) -> set[str]:
    """The files that `file` imports itself."""
    tree = ast.parse((ROOT / file).read_text())
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = {file_of(m) for m in modules if m.split(".")[0] in PACKAGES}
    return {f for f in ours if f is not None}


def tree_of(file: str) -> set[str]:
    """The files that running `file` runs, itself included, tracking left out."""
    found: set[str] = set()
    ahead = [file]
    while ahead:
        here = ahead.pop()
        if here not in found:
            found.add(here)
            ahead += [file for file in imported_by(here) if not file.startswith(UNTRACKED)]
    return found
