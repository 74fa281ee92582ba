"""The parts of a training step, each alone, for train_gpu.py: arithmetic, memory, seconds.

A process of its own, so that a GPU's memory is empty. Of each trainer: how many pairs go through
the model at once, by trying; what a batch then takes in each part, in seconds. Inputs lie on the
device already (of noise: a GPU is faster on zeros), but for the parts `pictures` and `captions`,
which are all that the host does.

Shapes: B pairs of a batch, D width of an embedding.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.embed import Pictures, spread
from benchmarks.train_sides import THEIRS
from pipeline.clip import device as devices
from pipeline.clip import model as clip_model
from pipeline.clip.losses import Codes
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.clip.towers import read_lengths
from pipeline.clip.trimmed import Texts, encode_text, trimmed
from pipeline.data.pairs import read_pairs
from pipeline.data.places import places_of
from pipeline.params import FinetuneParams
from pipeline.training import auto, optim, rates
from pipeline.training.distributed import ALONE, share
from pipeline.training.health import is_lack_of_memory
from pipeline.training.learner import BLOCK

LOOKED_AT, REPEATS = 2048, 3
"""Pictures that are decoded for the part `pictures`; and how often all other parts are timed."""

FULL = 0.92
"""Share of a GPU's memory that may be taken: what is left falls to pieces."""


class Side(NamedTuple):
    """What a trainer does on the device.

    Attributes:
        forward: so many rows → embeddings of images and texts, each rows×D.
        loss: of both, B×D each.
        apart: of a large batch the loss is computed once, apart from the towers' graphs (a gradient
            cache); else it is computed with each micro-batch, of all B rows.
        held: bytes of a row that lie on the device while a batch in micro-batches is gone through.
    """

    forward: Callable[[int], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    apart: bool
    held: int


def flops(model: nn.Module, *, side: int, length: int) -> int:
    """Operations of a pair's forward and backward, a multiply-add counted as two.

    `model` is on the meta device, so nothing is computed. Matrices, convolutions and attention are
    counted, as torch does; the loss, far below a thousandth of them, and the second forward of
    micro-batches, which a larger memory would spare, are not.
    """
    pixels = torch.zeros(2, 3, side, side, device="meta")
    tokens = torch.zeros(2, length, dtype=torch.long, device="meta")
    texts = Texts(tokens, torch.arange(2, device="meta"))
    with FlopCounterMode(display=False) as counter:
        images: Tensor = model.encode_image(pixels, normalize=True)  # type: ignore[operator]
        (images.sum() + encode_text(model, texts).sum()).backward()
    return int(counter.get_total_flops() // 2)


def largest(fits: Callable[[int], bool], batch: int, *, most: int) -> int:
    """The largest of batch, batch/2, batch/4, … that is no more than `most` and fits."""
    rows = batch
    while rows > most or not fits(rows):
        if rows % 2:
            raise SystemExit(f"not even {rows} rows fit, or {rows} can't be halved")
        rows //= 2
    return rows


def look(spec: dict[str, Any]) -> dict[str, Any]:
    """Each trainer's rows at once; tokens, pixels' bytes, operations of a pair; seconds a batch."""
    device, batch = torch.device(spec["device"]), spec["asked"]["batch_size"]
    base, name = Path(spec["base"]), spec["architecture"]
    torch.set_num_threads(devices.cores())
    clip = clip_model.load(base, architecture=name)
    pairs = read_pairs(Path(spec["selected"]))
    train = pairs[pairs["split"] == "train"]
    captions = list(train["caption"].iloc[:batch])
    size = clip.config["preprocess_cfg"]["size"]
    side = size if isinstance(size, int) else size[0]
    tokens = clip.tokenizer(captions)
    lengths = {THEIRS: tokens.shape[1], "ours": int(read_lengths(clip.model, tokens).max())}
    outline = clip_model.outline(name, base).train()
    pictures = _pictures(clip, train, Path(spec["source"]), device=device, batch=batch)
    of_captions = _took(lambda: trimmed(clip.model, clip.tokenizer(captions)), device)
    found = {}
    for who, make in ((THEIRS, _their_side), ("ours", _our_side)):
        model = clip_model.load(base, architecture=name).model.to(device)
        optim.train_mode(model, freeze_batch_norm=who == "ours")
        one = make(clip, model, tokens, spec["asked"], side=side, device=device)
        fits = partial(_fits, one, batch=batch, device=device)
        rows = largest(fits, batch, most=spec["most"] or batch)
        seconds = _seconds(one, model, rows, batch, device)
        if who == "ours":  # theirs are made by the processes that decode
            seconds["captions"] = of_captions * (1 if rows == batch else 2)
        found[who] = {
            "rows": rows, "tokens": lengths[who], "row_bytes": 3 * side * side * 4,
            "flops": flops(outline, side=side, length=lengths[who]),
            "seconds": {**pictures[who], **seconds},
        }  # fmt: skip
        del one, model, fits  # the next one's memory
        _emptied(device)
    return found


def _our_side(
    clip: Clip, model: Any, tokens: Tensor, asked: dict[str, Any], *, side: int,
    device: torch.device,
) -> Side:  # fmt: skip
    model.to(memory_format=torch.channels_last)
    weights = sum(weight.numel() for weight in model.parameters())
    settled = auto.settled(
        FinetuneParams.model_validate(asked), images=len(tokens), parameters=weights
    )
    every = torch.arange(len(tokens), device=device)

    def forward(rows: int) -> tuple[Tensor, Tensor]:
        crops = torch.randint(256, (rows, side, side, 3), dtype=torch.uint8, device=device)
        texts = trimmed(model, tokens[:rows]).to(device)
        with devices.autocast(device, asked["precision"]):
            image = F.normalize(model.encode_image(clip.pixels(crops)), dim=-1).float()
            return image, encode_text(model, texts).float()

    def loss(image: Tensor, text: Tensor) -> Tensor:
        return share(
            "info_nce", image, text, Codes(every, every), scale=model.logit_scale.float().exp(),
            same_label="negative", world=ALONE, block=BLOCK,
        )  # fmt: skip

    return Side(forward, loss, rates.optimizer(model, settled), apart=True, held=0)


def _their_side(
    _: Clip, model: Any, tokens: Tensor, asked: dict[str, Any], *, side: int,
    device: torch.device,
) -> Side:  # fmt: skip
    """As `open_clip_train.train.train_one_epoch` has it."""
    whole = ClipLoss()

    def forward(rows: int) -> tuple[Tensor, Tensor]:
        pixels = torch.randn(rows, 3, side, side, device=device)
        with devices.autocast(device, asked["precision"]):
            image, text, *_ = model(pixels, tokens[:rows].to(device))
        return image, text

    def loss(image: Tensor, text: Tensor) -> Tensor:
        with devices.autocast(device, asked["precision"]):
            found: Tensor = whole(image, text, model.logit_scale.exp())
        return found

    optimizer = torch.optim.AdamW(model.parameters(), lr=asked["lr"])
    return Side(forward, loss, optimizer, apart=False, held=3 * side * side * 4)


def _fits(one: Side, rows: int, *, batch: int, device: torch.device) -> bool:
    """Whether a step of `batch` pairs, `rows` at once, stays within the device's memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        _step(one, rows, batch, device)
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        return False
    finally:
        one.optimizer.zero_grad(set_to_none=True)
        reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
        _emptied(device)
    return device.type != "cuda" or reserved < FULL * torch.cuda.mem_get_info(device)[1]


def _step(one: Side, rows: int, batch: int, device: torch.device) -> None:
    held = torch.empty(one.held * batch if rows < batch else 0, dtype=torch.uint8, device=device)
    image, text = one.forward(rows)
    if rows == batch:
        one.loss(image, text).backward()
    elif one.apart:
        torch.autograd.backward([image, text], [torch.ones_like(image), torch.ones_like(text)])
    else:
        rest = torch.randn(batch - rows, image.shape[1], device=device, dtype=image.dtype)
        one.loss(torch.cat([image, rest]), torch.cat([text, rest])).backward()
    one.optimizer.step()
    del held


def _seconds(
    one: Side, model: nn.Module, rows: int, batch: int, device: torch.device
) -> dict[str, float]:
    """Of a whole batch, `rows` at once: each part that the device computes, alone."""
    times = batch // rows

    def there_and_back() -> None:
        image, text = one.forward(rows)
        torch.autograd.backward([image, text], [torch.ones_like(image), torch.ones_like(text)])

    @torch.no_grad()
    def there() -> None:
        one.forward(rows)

    def step() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        one.optimizer.step()

    found = {"forward and backward": times * _took(there_and_back, device)}
    found["optimizer"] = _took(step, device)
    found["second forward"] = times * _took(there, device) if times > 1 else 0.0
    one.optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        width = one.forward(2)[0].shape[1]
    noise = F.normalize(torch.randn(2, batch, width, device=device), dim=-1)
    image, text = (part.clone().requires_grad_() for part in noise)
    of_loss = _took(lambda: one.loss(image, text).backward(), device)
    found["loss"] = of_loss if one.apart else times * of_loss
    return found


def _took(what: Callable[[], object], device: torch.device) -> float:
    """Seconds, the mean of REPEATS after one that does not count."""
    what()
    _waited(device)
    began = time.perf_counter()
    for _ in range(REPEATS):
        what()
    _waited(device)
    return (time.perf_counter() - began) / REPEATS


def _waited(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _emptied(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _pictures(
    clip: Clip, train: pd.DataFrame, source: Path, *, device: torch.device, batch: int
) -> dict[str, dict[str, float]]:
    """Seconds of a batch's pictures, on all cores: from files; ours again, from memory."""
    some = train.iloc[:LOOKED_AT]
    scale = batch / len(some)
    loader = DataLoader(
        Pictures(clip, source, some["file"].tolist()),
        batch_size=spread(len(some), workers=devices.cores(), most=256),
        num_workers=devices.cores(), pin_memory=device.type == "cuda",
    )  # fmt: skip
    began = time.perf_counter()
    for pixels in loader:
        pixels.to(device, non_blocking=True)
    _waited(device)
    theirs = time.perf_counter() - began
    ids = some["image_id"].tolist()
    crops = Crops(clip, places_of(some, source=source, packed=source))
    ours = []
    for _ in range(2):
        began = time.perf_counter()
        crops.expect(ids)
        for start in range(0, len(ids), 256):
            crops.batch(ids[start : start + 256]).to(device)
        _waited(device)
        ours.append(time.perf_counter() - began)
    return {
        THEIRS: {"pictures": theirs * scale, "pictures again": theirs * scale},
        "ours": {"pictures": ours[0] * scale, "pictures again": ours[1] * scale},
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    torch.use_deterministic_algorithms(False)
    Path(given["report"]).write_text(json.dumps(look(given)))
