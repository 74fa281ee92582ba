"""Crops kept on disk between runs, by the picture's content and by how they are made.

A second training, a sweep, or an epoch that memory can't hold then decodes nothing. A cache is a
folder for one way of making crops (its key), with segments that are mapped, not read, and only ever
added. A segment that was torn (a full disk, a lost page) is found by its end, or by the checksum of
the crop that is asked for; it goes, and what it held is made again. Any number of processes may
write at once, since none changes what another wrote.

It changes how long a run takes and never what it finds, so it is no param. Deleting any of it costs
time alone; `CLIPTUNE_CROPS=off` does without.

Shapes: H×W a crop.
"""

import json
import os
import shutil
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import PIL
from PIL import features
from tqdm import tqdm

from pipeline.artifacts import sha256_of, sha256_text
from pipeline.clip import crops_segment as segments
from pipeline.clip.crops_segment import Crop, Segment
from pipeline.clip.model import Clip
from pipeline.data.places import Places
from pipeline.errors import ConfigError

VARIABLE = "CLIPTUNE_CROPS"

DISK_SHARE = 0.25
"""Of the disk that would be free without them: what all crops of all keys may take."""

SEGMENT_BYTES = 2**26
"""Pixels after which a segment is written: what a killed process can lose, twice."""

ABANDONED_S = 86_400.0
"""The age at which a file that never got its name is nobody's."""

KEY_FILE = "key.json"
MAKING = ("clip/model.py", "data/images.py")
"""Code that decides what a crop is."""


def open_cache(root: Path, clip: Clip, places: Places) -> "CropsCache | None":
    """The cache below `root` of this model's crops of these images; None where it is off.

    Raises ConfigError when CLIPTUNE_CROPS is neither auto nor off.
    """
    asked = os.environ.get(VARIABLE) or "auto"
    if asked not in ("auto", "off"):
        raise ConfigError(f"{VARIABLE} is {asked!r}: set it to auto or off, or leave it")
    if asked == "off":
        return None
    try:
        return CropsCache(root, how(clip), wanted=places.keys())
    except OSError as error:  # a disk that is full or read-only costs time, not the run
        tqdm.write(f"crops are not kept on disk: {error}")
        return None


def how(clip: Clip) -> dict[str, Any]:
    """How a model's crops are made: its preprocessing, the decoders, the code."""
    package = Path(__file__).parents[1]
    return {
        "preprocess": clip.config["preprocess_cfg"],
        "pillow": PIL.__version__,
        "codecs": [features.version_codec(name) for name in ("jpg", "zlib", "libtiff")]
        + [features.version(name) for name in ("libjpeg_turbo", "zlib_ng", "webp")],
        "libraries": {name: version(name) for name in ("open_clip_torch", "torchvision")},
        "code": [sha256_of(package / name) for name in MAKING],
    }


class CropsCache:
    """The crops known for one way of making them.

    `get` may be called from any thread, all else from one.

    Attributes:
        damaged: how often a segment was found damaged, and removed.
    """

    def __init__(self, root: Path, key: Mapping[str, Any], *, wanted: Collection[str]) -> None:
        """Open, or begin, the cache of `key` below `root`, for the ids in `wanted`."""
        text = json.dumps(dict(key), indent=2, sort_keys=True)
        self._root, self._folder = root, root / sha256_text(text)[:32]
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / KEY_FILE).is_file():
            segments.put_file(self._folder, lambda file: _write(file, text), KEY_FILE)
        self._wanted = frozenset(wanted)
        self._looked: set[Path] = set()
        self._used: dict[Path, Segment] = {}
        self._where: dict[str, tuple[Path, int]] = {}
        self._new: dict[str, Crop] = {}
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self.damaged = 0
        self.refresh()

    def __len__(self) -> int:
        """How many of the wanted crops are on disk."""
        return len(self._where)

    def refresh(self) -> None:
        """Look again at what is there: other processes may have added segments."""
        for file in sorted(self._folder.glob(f"*{segments.SUFFIX}")):
            if file not in self._looked:
                self._look(file)

    def get(self, image_id: str) -> Crop | None:
        """The crop H×W×3 of an image, copied; None where there is none that is whole."""
        found = self._where.get(image_id)
        if found is None:
            return None
        file, row = found
        segment = self._used[file]
        crop: Crop = segment.pixels[row].copy()
        if segments.checksum(image_id, crop) == segment.checksums[row]:
            return crop
        self._where.pop(image_id, None)
        self._remove(file)
        return None

    def add(self, image_id: str, crop: Crop) -> None:
        """Keep a crop: on disk by the time `flush` returns, unless there is no room."""
        if image_id in self._where:
            return
        self._new[image_id] = crop
        if len(self._new) * crop.nbytes >= SEGMENT_BYTES:
            self._begin_writing()

    def flush(self) -> None:
        """Write what was added, and see what others have."""
        self._begin_writing()
        self._wait()
        self.refresh()

    def _begin_writing(self) -> None:
        """Write in a thread: a segment takes as long as many pictures to compute."""
        self._wait()
        new, self._new = self._new, {}
        if new:
            self._writing = self._writer.submit(self._write, new)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write(self, new: Mapping[str, Crop]) -> None:
        try:
            self.refresh()  # another process may have been faster
            lacking = {id_: crop for id_, crop in new.items() if id_ not in self._where}
            if lacking and self._make_room(sum(crop.nbytes for crop in lacking.values())):
                self._look(segments.put(self._folder, lacking))
        except OSError as error:  # a full disk costs time, not the run
            tqdm.write(f"{len(new)} crops are not kept on disk: {error}")

    def _make_room(self, size: int) -> bool:
        """Whether so many bytes may be added, once the segments longest unused have gone."""
        others = sorted(self._others())
        used = sum(segment.pixels.nbytes for segment in self._used.values())
        used += sum(length for _, length, _ in others)
        limit = DISK_SHARE * (shutil.disk_usage(self._root).free + used)
        for _, length, file in others:
            if used + size <= limit:
                break
            file.unlink(missing_ok=True)
            used -= length
        return used + size <= limit

    def _others(self) -> list[tuple[float, int, Path]]:
        """Last use, size and path of each segment, of any key, that holds nothing wanted here."""
        found = []
        patterns = (f"*/*{segments.SUFFIX}", f"*/.*{segments.PART}")
        for file in (file for pattern in patterns for file in self._root.glob(pattern)):
            try:
                state = file.stat()
            except FileNotFoundError:  # another process made room, or gave it its name
                continue
            if file.suffix == segments.PART:
                if time.time() - state.st_mtime > ABANDONED_S:
                    file.unlink(missing_ok=True)
            elif file not in self._used:
                found.append((state.st_mtime, state.st_size, file))
        return found

    def _look(self, file: Path) -> None:
        """Take into use what is wanted of a segment."""
        self._looked.add(file)
        try:
            segment = segments.mapped(file)
            ids = [id_.decode() for id_ in segment.ids.tolist()]
            rows = {id_: row for row, id_ in enumerate(ids) if id_ in self._wanted}
            if rows:
                os.utime(file)
        except FileNotFoundError:  # another process made room
            return
        except segments.TORN:
            self._remove(file)
            return
        if rows:
            self._used[file] = segment
            self._where |= {id_: (file, rows[id_]) for id_ in rows.keys() - self._where.keys()}

    def _remove(self, file: Path) -> None:
        """Away with a damaged segment; what is sound in it serves to the end of this run."""
        self.damaged += 1
        file.unlink(missing_ok=True)


def _write(file: Any, text: str) -> None:
    file.write(text.encode())
