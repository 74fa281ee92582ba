"""Crops of images by id: decoded once, in threads, in the order in which they are asked for."""

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import psutil
import torch
from torch import Tensor

from pipeline.artifacts import sha256_bytes
from pipeline.clip import device as devices
from pipeline.clip.crops_cache import CropsCache
from pipeline.clip.model import Clip
from pipeline.data.images import open_image
from pipeline.data.places import Places
from pipeline.errors import DataError

CACHE_SHARE = 0.25
"""Of the memory that is free at the start. It bounds time, not results, so it is no param."""


AHEAD_SHARE = 0.1
"""Likewise, for pictures that are made before they are asked for."""


class _Made(NamedTuple):
    """A crop H×W×3, and whether it is to be kept on disk."""

    crop: Tensor
    new: bool


class Crops:
    """The uint8 crops of a data set's images.

    Decoding releases the interpreter's lock, so threads scale with the cores and, unlike worker
    processes, can't change an order or a result. Crops are kept in memory up to a bound: a second
    epoch decodes nothing if they fit. Where there is a `cache`, they are kept on disk as well.

    Attributes:
        decoded: how many crops were made from pictures.
        waited_s: seconds for which `batch` kept its callers.
    """

    def __init__(self, clip: Clip, places: Places, *, cache: CropsCache | None = None) -> None:
        """`places` tells of each image's id where it lies."""
        self._crop, self._places, self._cache = clip.crop, places, cache
        # As many threads as by default, and as much memory, for all processes together.
        self._pool = ThreadPoolExecutor(min(32, devices.cores() // devices.sharing() + 4))
        self._kept: dict[str, Tensor] = {}
        self._coming: dict[str, Future[_Made]] = {}
        self._counting = threading.Lock()
        available = psutil.virtual_memory().available // devices.sharing()
        self._free = int(available * CACHE_SHARE)
        self._most = int(available * AHEAD_SHARE) // _bytes_of(
            clip.config["preprocess_cfg"]["size"]
        )
        self.decoded, self.waited_s = 0, 0.0

    def expect(self, image_ids: Iterable[str]) -> None:
        """Begin with these, for `batch` to find; they stay until another call does not name them.

        Of more than memory has room for, those named last are left out. Only the time that `batch`
        takes depends on it.
        """
        lacking = dict.fromkeys(id_ for id_ in image_ids if id_ not in self._kept)
        asked = dict.fromkeys(islice(lacking, self._most))
        for id_ in self._coming.keys() - asked.keys():
            self._coming.pop(id_).cancel()
        for id_ in asked:
            if id_ not in self._coming:
                self._coming[id_] = self._pool.submit(self._make, id_)

    def batch(self, image_ids: Sequence[str]) -> Tensor:
        """Ids of B images → B×H×W×3 uint8, in the order of the ids."""
        began = time.perf_counter()
        missing = dict.fromkeys(id_ for id_ in image_ids if id_ not in self._kept)
        coming = {
            id_: self._coming.get(id_) or self._pool.submit(self._make, id_) for id_ in missing
        }
        crops = {id_: self._received(id_, future.result()) for id_, future in coming.items()}
        stacked = torch.stack([crops[i] if i in crops else self._kept[i] for i in image_ids])
        self.waited_s += time.perf_counter() - began
        return stacked

    def flush(self) -> None:
        """Bring to disk what is to be kept there."""
        if self._cache is not None:
            self._cache.flush()

    def _received(self, image_id: str, made: _Made) -> Tensor:
        if made.new and self._cache is not None:
            self._cache.add(image_id, made.crop.numpy())
        if made.crop.nbytes <= self._free:
            self._kept[image_id] = made.crop
            self._free -= made.crop.nbytes
            self._coming.pop(image_id, None)
        return made.crop

    def _make(self, image_id: str) -> _Made:
        kept = None if self._cache is None else self._cache.get(image_id)
        if kept is not None:
            return _Made(torch.from_numpy(kept), new=False)
        place = self._places[image_id]
        try:
            with open_image(place) as picture:
                crop = torch.from_numpy(self._crop(picture).copy())
            # An id that is not its content's hash must not reach the disk: the file changed since
            # it was validated, or these are ids of another kind.
            new = self._cache is not None and sha256_bytes(place.read()) == image_id
        except OSError as error:
            raise DataError(
                f"{place.shown} can't be decoded ({error}): it changed since it was validated, or "
                "its data set was never validated; mend or remove it"
            ) from None
        with self._counting:
            self.decoded += 1
        return _Made(crop, new)


def _bytes_of(size: int | Sequence[int]) -> int:
    """Of a crop whose side, or height and width, are `size`."""
    height, width = (size, size) if isinstance(size, int) else size
    return 3 * height * width
