"""Making the present data the reference for drift."""

from pathlib import Path

from pipeline.artifacts import read_json, write_json
from pipeline.errors import DataError
from pipeline.validation.drift import digest, read_accepted

_KEPT = 2


def accept(profile_file: Path, accepted_file: Path) -> str:
    """Add the present profile to the accepted ones, of which the last two stay; say what was done.

    Raises DataError when there is no profile yet, or `accepted_file` is malformed.
    """
    if not profile_file.exists():
        raise DataError(f"{profile_file} is missing: run `dvc repro validate` first")
    profile = read_json(profile_file)
    accepted = read_accepted(accepted_file)
    name = f"the profile {digest(profile)[:8]} of {profile['rows']:,} pairs"
    if accepted and accepted[-1] == profile:
        return f"{name} is accepted already"
    write_json(accepted_file, [*accepted, profile][-_KEPT:])
    return f"accepted {name}: commit {accepted_file}, and new data are measured against it"
