"""Embeddings that a cache lacks: decoded ahead, computed in batches of one shape, kept at once.

Shapes: B items of a batch, H×W a crop, L tokens, D width of an embedding.
"""

import os
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.clip.cache import EmbeddingCache, Ids, as_ids
from pipeline.clip.nvjpeg import Item
from pipeline.clip.progress import Progress
from pipeline.clip.towers import Towers

SEGMENT = 4096
"""Rows after which a segment is written: what a killed process can lose, at most."""

SECONDS = 30.0
"""Or so much time."""

LOWEST = 19
"""Of a thread's priorities on Linux."""

AHEAD = 3
"""Batches decoded or being decoded while one is computed."""

Decode = Callable[[str], Item]
"""An image's id → its crop, H×W×3 uint8, or what will become one; OSError where there is none."""

Join = Callable[[Sequence[Item]], Tensor]
"""What B images' ids gave → their crops, B×H×W×3 uint8."""


Row = TypeVar("Row")


class Failed(NamedTuple):
    """An image that has no embedding."""

    image_id: str
    error: str


class _Batch(NamedTuple):
    """Ids of up to B items, and B inputs; those beyond the ids only fill the shape."""

    ids: list[str]
    inputs: Tensor


def fill_images(
    cache: EmbeddingCache,
    image_ids: Sequence[str],
    towers: Towers,
    *,
    decode: Decode,
    join: Join,
    batch_size: int,
    threads: int,
    progress: Progress,
) -> list[Failed]:
    """Compute what `cache` lacks of `image_ids`; return the images that can't be decoded."""
    failed: list[Failed] = []

    def batches(pool: ThreadPoolExecutor) -> Iterator[_Batch]:
        decoded = _ahead(pool, decode, image_ids, AHEAD * batch_size)
        ids: list[str] = []
        items: list[Item] = []
        for image_id, future in decoded:
            try:
                item = future.result()
            except OSError as error:
                failed.append(Failed(image_id, str(error)))
                progress.failed()
                continue
            ids.append(image_id)
            items.append(item)
            if len(ids) == batch_size:
                yield _Batch(ids, join(items))
                ids, items = [], []
        if ids:
            yield _Batch(ids, join(_filled_up(items, batch_size)))

    with _decoders(threads, towers.device) as pool:
        _compute(cache, batches(pool), towers.images, towers.device, progress)
    return failed


def fill_texts(
    cache: EmbeddingCache,
    texts: dict[str, str],
    towers: Towers,
    *,
    tokenize: Callable[[list[str]], Tensor],
    batch_size: int,
    progress: Progress,
) -> None:
    """Compute what `cache` lacks of `texts` (id → text), those of like length together."""

    def batches() -> Iterator[_Batch]:
        waiting: defaultdict[int, list[tuple[str, Tensor]]] = defaultdict(list)
        items = iter(texts.items())
        while part := list(islice(items, SEGMENT)):
            tokens = tokenize([text for _, text in part])
            lengths = towers.read_length(tokens)
            for (text_id, _), row, length in zip(part, tokens, lengths, strict=True):
                same = waiting[length]
                same.append((text_id, row[:length]))
                if len(same) == batch_size:
                    yield _as_batch(waiting.pop(length), batch_size)
        for length in sorted(waiting):
            yield _as_batch(waiting[length], batch_size)

    _compute(cache, batches(), towers.texts, towers.device, progress)


def _as_batch(items: list[tuple[str, Tensor]], batch_size: int) -> _Batch:
    rows = _filled_up([row for _, row in items], batch_size)
    return _Batch([id_ for id_, _ in items], torch.stack(rows))


def _filled_up(rows: list[Row], batch_size: int) -> list[Row]:
    """As many rows as a batch has: the last one again where they run out."""
    return rows + rows[-1:] * (batch_size - len(rows))


def _decoders(threads: int, device: torch.device) -> ThreadPoolExecutor:
    """Threads for pictures. On a CPU they give way to the model's own, where the system knows how.

    A step of the model ends when the slowest of its threads does: one that lost its core to a
    picture keeps all others waiting.
    """
    yielding = device.type == "cpu" and sys.platform == "linux"
    return ThreadPoolExecutor(threads, initializer=_give_way if yielding else None)


def _give_way() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)


def _ahead(
    pool: ThreadPoolExecutor, decode: Decode, ids: Sequence[str], depth: int
) -> Iterator[tuple[str, Future[Item]]]:
    """Ids with their crops on the way, in order, at most `depth` of them begun."""
    queue: deque[tuple[str, Future[Item]]] = deque()
    for image_id in ids:
        queue.append((image_id, pool.submit(decode, image_id)))
        if len(queue) >= depth:
            yield queue.popleft()
    while queue:
        yield queue.popleft()


def _compute(
    cache: EmbeddingCache,
    batches: Iterator[_Batch],
    embed: Callable[[Tensor], Tensor],
    device: torch.device,
    progress: Progress,
) -> None:
    """Embed batch by batch, fetching each result while the next is computed; write segments."""
    kept = _Segment(cache)
    before: tuple[list[str], Tensor, torch.cuda.Event | None] | None = None
    for batch in batches:
        elsewhere = device.type == "cuda" and batch.inputs.device.type == "cpu"
        inputs = batch.inputs.pin_memory() if elsewhere else batch.inputs
        after = (batch.ids, *_to_host(embed(inputs), device))
        if before is not None:
            kept.add(*_arrived(*before), progress)
        before = after
    if before is not None:
        kept.add(*_arrived(*before), progress)
    kept.write()


def _to_host(vectors: Tensor, device: torch.device) -> tuple[Tensor, torch.cuda.Event | None]:
    """Start the copy of a result to the host; the event says when it is there."""
    if device.type != "cuda":
        return vectors, None
    host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
    host.copy_(vectors, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event


def _arrived(
    ids: list[str], vectors: Tensor, event: torch.cuda.Event | None
) -> tuple[list[str], np.ndarray]:
    if event is not None:
        event.synchronize()
    return ids, vectors[: len(ids)].numpy()


class _Segment:
    """Rows on their way to a segment of the cache."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self._cache = cache
        self._begin()

    def _begin(self) -> None:
        self._ids: list[Ids] = []
        self._vectors: list[np.ndarray] = []
        self._since = time.monotonic()

    def add(self, ids: list[str], vectors: np.ndarray, progress: Progress) -> None:
        self._ids.append(as_ids(ids))
        self._vectors.append(vectors)
        progress.done(len(ids))
        rows = sum(len(part) for part in self._ids)
        if rows >= SEGMENT or time.monotonic() - self._since >= SECONDS:
            self.write()

    def write(self) -> None:
        if self._ids:
            self._cache.add(np.concatenate(self._ids), np.concatenate(self._vectors))
        self._begin()
