"""Checkpoints of a training: whole or absent, in one file each, without code in them.

DVC clears a stage's outputs before it runs, so what a killed training goes on from lies outside
them. A checkpoint appears under its name when it is on disk, and its name holds the hash of its
content: one that a crash tore, or a bad disk changed, is left aside, and the one before counts.

A file is in the format of safetensors (github.com/huggingface/safetensors), written here tensor by
tensor: their own writer copies all tensors first, and refuses those that share memory.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from filelock import FileLock
from torch import Tensor

from pipeline.artifacts import sha256_of, sha256_text, write_json
from pipeline.errors import TrainingError

KEPT = 2
"""The newest, and the one before, which counts should the newest be damaged."""

FORGOTTEN_S = 30 * 24 * 3600.0
"""A month."""

KEY_FILE = "key.json"
LOCK_FILE = "checkpoints.lock"
_NAME = re.compile(r"step-\d{9}-[0-9a-f]{64}\.safetensors")
_PART = "*.part"
_STATE, _SAME = "state", "same"

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Checkpoint(NamedTuple):
    """What a training needs to go on: tensors by name, and the rest as JSON holds it."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training, which its key tells from all others.

    Several processes may have the same key: a training that was taken for dead, and its successor.
    Each writes under a name of its own, and one at a time.

    Attributes:
        folder: where they lie.
        damaged: files found damaged, and removed, by `newest`.
    """

    def __init__(self, root: Path, key: Mapping[str, Any]) -> None:
        """Those below `root` of the training that `key` describes; nothing is written yet.

        `key` is what JSON holds; TypeError for anything else.
        """
        self._key = dict(key)
        self.folder = root / sha256_text(json.dumps(self._key, sort_keys=True))[:32]
        self.damaged = 0

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep a checkpoint of `step`; on disk when this returns.

        Tensors may share memory. `state` is what JSON can hold, infinity and NaN included.

        Raises TrainingError where it can't be written, as on a full disk; what was there stays.
        """
        size = sum(tensor.nbytes for tensor in tensors.values())
        with self._told(f"can't write a checkpoint of {size / 1e6:,.1f} MB"), self._alone():
            self.folder.mkdir(exist_ok=True)
            _sync(self.folder.parent)
            # Of those who were killed here: nobody else writes now.
            for left in [*self.folder.glob(_PART), *self._files()[KEPT:]]:
                left.unlink()
            if not (self.folder / KEY_FILE).is_file():
                write_json(self.folder / KEY_FILE, self._key)
            part = self.folder / f"step-{step:09}.part"
            try:
                digest = _write(part, tensors, state)
                part.rename(self.folder / f"step-{step:09}-{digest}.safetensors")
            finally:
                part.unlink(missing_ok=True)
            _sync(self.folder)
            for old in self._files()[KEPT:]:
                old.unlink()

    def newest(self) -> Checkpoint | None:
        """The newest sound checkpoint, or None; damaged ones are removed on the way to it.

        Raises TrainingError where the folder can't be read.
        """
        with self._told("can't read a checkpoint"):
            while files := self._files():
                for file in files:
                    found = self._read(file)
                    if found is not None:
                        return found
            return None

    def clear(self) -> None:
        """Remove them all: the training is done."""
        if self.folder.is_dir():
            with self._alone():
                shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """Those that are whole, by their names the newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((f for f in self.folder.iterdir() if _NAME.fullmatch(f.name)), reverse=True)

    def _read(self, file: Path) -> Checkpoint | None:
        """The checkpoint in `file`; None where it is damaged, or another process removed it."""
        try:
            if _is_sound(file):
                return _content(file)
            with self._alone():  # or else another process could just have written it anew
                if not _is_sound(file):
                    file.unlink()
                    self.damaged += 1
        except FileNotFoundError:
            pass
        return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Without another process that writes here; one that was killed holds nothing."""
        root = self.folder.parent
        root.mkdir(parents=True, exist_ok=True)
        # Not in the folder, which `clear` may remove while somebody waits.
        with FileLock(root / LOCK_FILE):
            yield

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            remedy = (
                f"make room there: {KEPT} checkpoints are kept, and a third is written before the "
                "oldest goes"
                if full
                else "see that the folder can be read and written"
            )
            raise TrainingError(
                f"{what} in {self.folder} ({error.strerror or error}): {remedy}; "
                "the checkpoints before it are unharmed"
            ) from error


def forget(root: Path) -> None:
    """Remove what trainings left that were not taken up again for `FORGOTTEN_S`."""
    before = time.time() - FORGOTTEN_S
    for folder in root.iterdir() if root.is_dir() else ():
        files = list(folder.iterdir()) if folder.is_dir() else []
        if files and max(file.stat().st_mtime for file in files) < before:
            shutil.rmtree(folder, ignore_errors=True)


def _write(file: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
    """Write a safetensors file to the disk; return the SHA-256 of its bytes."""
    # Tensors that are one and the same (tied weights) are written once.
    first: dict[Any, str] = {}
    same = {name: first.setdefault(_identity(t), name) for name, t in tensors.items()}
    # Wider types first, as safetensors has it, so that each tensor is aligned.
    names = sorted(first.values(), key=lambda name: (-tensors[name].itemsize, name))
    aliases = {name: origin for name, origin in same.items() if name != origin}
    metadata = {_STATE: json.dumps(dict(state)), _SAME: json.dumps(aliases)}
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with file.open("wb") as out:
        head = len(text).to_bytes(8, "little") + text
        for piece in chain([head], (_bytes(tensors[name]) for name in names)):
            out.write(piece)
            digest.update(piece)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _identity(tensor: Tensor) -> Any:
    """Equal for two tensors that are the same values at the same place."""
    where = (tensor.device, tensor.data_ptr(), tuple(tensor.stride()))
    return (*where, tensor.dtype, tuple(tensor.shape))


def _bytes(tensor: Tensor) -> Any:
    """A tensor's values in the order of its dimensions, whatever their order in memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()


def _is_sound(file: Path) -> bool:
    """Whether the content of `file` is what its name says; FileNotFoundError where it is gone."""
    try:
        return sha256_of(file) == file.stem.rpartition("-")[2]
    except OSError as error:
        if error.errno != errno.EIO:  # a disk that can't read it back
            raise
        return False


def _content(file: Path) -> Checkpoint:
    with safetensors.safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    for name, origin in json.loads(metadata[_SAME]).items():
        tensors[name] = tensors[origin]
    return Checkpoint(int(file.name.split("-")[1]), tensors, json.loads(metadata[_STATE]))


def _sync(folder: Path) -> None:
    """A name that was made in `folder` is on disk when this returns."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
