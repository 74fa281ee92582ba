"""A patch without the files that hold a credential: each is left out as a whole, and named."""

import os
import re
from pathlib import Path

from pipeline import lineage_secrets

BINARY_LIMIT = 20_000_000
"""Bytes at the start of a changed binary file that are looked through."""


def cleared(patch: bytes) -> tuple[bytes, list[str]]:
    """The patch (`git diff --binary`) without such files, and for each `path (kinds)`.

    All lines that it would store count: also those that the change removes.
    """
    kept, found = [], []
    for part in re.split(rb"(?m)^(?=diff --git )", patch):
        kinds = _kinds(part)
        if kinds:
            found.append(f"{lineage_secrets.redact(str(path_of(part)))} ({', '.join(kinds)})")
        else:
            kept.append(part)
    return b"".join(kept), found


def _kinds(part: bytes) -> list[str]:
    """What the part of one file holds; of a binary file, its content as it is now."""
    head, binary, _ = part.partition(b"\nGIT binary patch\n")
    if not binary:
        return lineage_secrets.kinds(re.sub(rb"(?m)^[-+ ]", b"", part).decode("utf-8", "replace"))
    return lineage_secrets.kinds(_content(path_of(part)) + head.decode("utf-8", "replace"))


def _content(path: Path) -> str:
    """A file as bytes; without zeros, texts in UTF-16 are as readable as others."""
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(BINARY_LIMIT).replace(b"\0", b"").decode("latin-1") + "\n"


def path_of(part: bytes) -> Path:
    """The file that a part of a patch with the prefixes a/ and b/ is about."""
    head, _, rest = part.partition(b"\n")
    renamed = re.search(rb"(?m)^rename to (.*)$", rest.partition(b"\n@@ ")[0])
    if renamed:
        return Path(os.fsdecode(_unquoted(renamed[1])))
    names = head.removeprefix(b"diff --git ")  # of one length, or it would be a renaming
    return Path(os.fsdecode(_unquoted(names[len(names) // 2 + 1 :])[2:]))


def _unquoted(name: bytes) -> bytes:
    """A path as git writes it: one with unusual characters in quotes, like a string of C."""
    if not name.startswith(b'"'):
        return name
    return name[1:-1].decode("unicode_escape").encode("latin-1")
