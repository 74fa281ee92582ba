"""Crops of images by id: decoded once, in threads, in the order in which they are asked for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil
import torch
from torch import Tensor

from pipeline.clip.model import Clip
from pipeline.data.images import open_image
from pipeline.data.places import Places
from pipeline.errors import DataError

CACHE_SHARE = 0.25
"""Of the memory that is free at the start. It bounds time, not results, so it is no param."""


class Crops:
    """The uint8 crops of a data set's images.

    Decoding releases the interpreter's lock, so threads scale with the cores and, unlike worker
    processes, can't change an order or a result. Crops are kept in memory up to a bound: a second
    epoch decodes nothing if they fit.
    """

    def __init__(self, clip: Clip, places: Places) -> None:
        """`places` tells of each image's id where it lies."""
        self._crop, self._places = clip.crop, places
        self._pool = ThreadPoolExecutor()
        self._kept: dict[str, Tensor] = {}
        self._free = int(psutil.virtual_memory().available * CACHE_SHARE)

    def batch(self, image_ids: Sequence[str]) -> Tensor:
        """Ids of B images → B×H×W×3 uint8, in the order of the ids."""
        missing = [id_ for id_ in dict.fromkeys(image_ids) if id_ not in self._kept]
        decoded = dict(zip(missing, self._pool.map(self._decode, missing), strict=True))
        for id_, crop in decoded.items():
            self._keep(id_, crop)
        return torch.stack([self._kept[i] if i in self._kept else decoded[i] for i in image_ids])

    def _keep(self, image_id: str, crop: Tensor) -> None:
        if crop.nbytes <= self._free:
            self._kept[image_id] = crop
            self._free -= crop.nbytes

    def _decode(self, image_id: str) -> Tensor:
        place = self._places[image_id]
        try:
            with open_image(place) as picture:
                return torch.from_numpy(self._crop(picture).copy())
        except OSError as error:
            raise DataError(
                f"{place.path} can't be decoded ({error}): it changed since it was validated, or "
                "its data set was never validated; mend or remove it"
            ) from None
