"""What there is to embed, what of it is known, and how the rest is computed."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import PIL
import torch
from torch import Tensor

from pipeline.artifacts import sha256_of, sha256_text, write_text
from pipeline.clip import device as devices
from pipeline.clip import fill, nvjpeg, sizes
from pipeline.clip.cache import EmbeddingCache, as_ids
from pipeline.clip.model import Clip, load, locate
from pipeline.clip.progress import Progress
from pipeline.clip.resizing import fast_crop, shape_of
from pipeline.clip.towers import Towers, batch_for
from pipeline.data.images import open_image
from pipeline.data.pairs import read_pairs
from pipeline.data.places import Places, places_of
from pipeline.errors import ConfigError, DataError
from pipeline.params import EmbedParams, ModelParams

FAILED_FILE = "failed.csv"
"""In the cache's folder: images of the last run that could not be decoded."""

COMPUTING = ("towers.py", "resizing.py", "nvjpeg.py", "model.py", "fill.py", "../data/images.py")
"""Code that decides what a vector is: a vector computed by other code is another vector."""


class Share(NamedTuple):
    """Which part of the work is this process's: of each `of` items the one at `number`."""

    number: int = 0
    of: int = 1


class Pixels(NamedTuple):
    """How images become crops: one at a time in threads, then a batch of them.

    Attributes:
        exact: the crops are OpenCLIP's own, bit for bit.
    """

    decode: fill.Decode
    join: fill.Join
    exact: bool


class Work(NamedTuple):
    """Items by id, the model, and the vectors known of them.

    Attributes:
        texts: each distinct caption by its SHA-256, in order of it.
        pixels: how images become crops.
    """

    pairs: pd.DataFrame
    image_ids: list[str]
    texts: dict[str, str]
    clip: Clip
    towers: Towers
    pixels: Pixels
    places: Places
    images: EmbeddingCache
    captions: EmbeddingCache
    batch: sizes.Batch


def prepare(
    clean: Path,
    source: Path,
    params: EmbedParams,
    *,
    packed: Path,
    base: ModelParams,
    cpu_threads: int,
    cache: Path,
) -> Work:
    """Load pairs and model and open the caches below `cache`.

    Raises ModelError when the model can't be loaded, ConfigError for a device that is not there.
    """
    device = devices.prepare(cpu_threads=cpu_threads)
    clip = load(locate(base.pretrained), architecture=base.name)
    precision = devices.precision(device, params.precision)
    batch = batch_for(clip, params.batch_size, device=device)
    pairs = read_pairs(clean)
    places = places_of(pairs, source=source, packed=packed)
    how = made(clip, device=device, cpu_threads=cpu_threads, precision=precision)
    pixels = _pixels(clip, places, params, device)
    looks = seen(clip, exact=pixels.exact, decoder=params.decoder, compiled=params.compile)
    captions = sorted(pairs["caption"].unique(), key=sha256_text)
    return Work(
        pairs=pairs,
        image_ids=sorted(pairs["image_id"].unique()),
        texts={sha256_text(caption): caption for caption in captions},
        clip=clip,
        towers=Towers(clip, device=device, precision=precision, compiled=params.compile),
        pixels=pixels,
        places=places,
        images=EmbeddingCache(cache / "images", how | looks | {"batch_size": batch.images}),
        captions=EmbeddingCache(cache / "texts", how | {"batch_size": batch.texts}),
        batch=batch,
    )


def made(clip: Clip, *, device: torch.device, cpu_threads: int, precision: str) -> dict[str, Any]:
    """With `batch_size` the key of a text's vector, and of an image's with `seen` as well.

    It holds all that moves a bit of a vector.
    """
    return {
        "model": clip.fingerprint,
        "model_cfg": clip.config["model_cfg"],
        "code": _code(),
        "libraries": {name: version(name) for name in ("torch", "open_clip_torch")},
        "device": devices.described(device, cpu_threads=cpu_threads),
        "precision": precision,
    }


def seen(clip: Clip, *, exact: bool, decoder: str, compiled: bool) -> dict[str, Any]:
    """The rest of the key of an image's vector: how its pixels are made."""
    return {
        "preprocess": clip.config["preprocess_cfg"],
        "pillow": PIL.__version__,
        "torchvision": version("torchvision"),
        "exact": exact,
        "decoder": decoder,
        "compiled": compiled,
    }


def exact_pixels(clip: Clip, places: Places) -> Pixels:
    """OpenCLIP's own crops, as training takes them."""

    def decode(image_id: str) -> Tensor:
        with open_image(places[image_id]) as picture:
            return torch.from_numpy(clip.crop(picture).copy())

    return Pixels(decode, _stacked, exact=True)


def complete(work: Work, *, cache: Path, share: Share | None = None) -> None:
    """Compute this process's share of what the caches lack, and look at them again.

    Raises DataError when images can't be decoded; everything else is computed first, and kept.
    """
    share = share or Share()
    failed = _images(work, share)
    _texts(work, share)
    work.images.refresh()
    work.captions.refresh()
    if failed:
        raise DataError(told(failed, work.places, cache / FAILED_FILE))


def _images(work: Work, share: Share) -> list[fill.Failed]:
    ids = np.asarray(work.image_ids)
    lacking = ids[work.images.lacks(as_ids(work.image_ids))]
    mine = lacking[share.number :: share.of].tolist()
    with _progress("images", len(ids), len(lacking), mine, work.images) as progress:
        return fill.fill_images(
            work.images,
            mine,
            work.towers,
            decode=work.pixels.decode,
            join=work.pixels.join,
            batch_size=work.batch.images,
            threads=devices.cores(),
            progress=progress,
        )


def _texts(work: Work, share: Share) -> None:
    ids = np.asarray(list(work.texts))
    lacking = ids[work.captions.lacks(as_ids(list(work.texts)))]
    mine = lacking[share.number :: share.of].tolist()
    with _progress("texts", len(ids), len(lacking), mine, work.captions) as progress:
        fill.fill_texts(
            work.captions,
            {text_id: work.texts[text_id] for text_id in mine},
            work.towers,
            tokenize=work.clip.tokenizer,
            batch_size=work.batch.texts,
            progress=progress,
        )


def _progress(
    unit: str, items: int, lacking: int, mine: list[str], cache: EmbeddingCache
) -> Progress:
    known = items - lacking
    return Progress(unit, total=known + len(mine), known=known, damaged=cache.corrupt)


def _pixels(clip: Clip, places: Places, params: EmbedParams, device: torch.device) -> Pixels:
    """Raises ConfigError where nvJPEG is asked for and can't be used."""
    preprocess = clip.config["preprocess_cfg"]
    crop = None if params.exact else fast_crop(preprocess)
    if params.decoder == "nvjpeg":
        devices.require_gpu(device, "embed.decoder is nvjpeg")
        shape = shape_of(preprocess)
        if shape is None or crop is None:
            raise ConfigError(
                f"embed.decoder is nvjpeg, which can't do the preprocessing of {clip.architecture} "
                f"({preprocess}): set it to cpu"
            )
        return Pixels(
            lambda image_id: nvjpeg.encoded(places[image_id], crop),
            lambda items: nvjpeg.crops(items, shape, crop=crop, device=device),
            exact=False,
        )

    if crop is None:
        return exact_pixels(clip, places)
    return Pixels(lambda image_id: torch.from_numpy(crop(places[image_id])), _stacked, exact=False)


def _stacked(items: Sequence[nvjpeg.Item]) -> Tensor:
    return torch.stack([item for item in items if isinstance(item, Tensor)])


def told(failed: list[fill.Failed], places: Places, file: Path) -> str:
    """One message for all images that failed; the list of them goes to `file`."""
    rows = [(one.image_id, str(places[one.image_id].path), one.error) for one in failed]
    table = pd.DataFrame(rows, columns=["image_id", "file", "error"])
    write_text(file, table.to_csv(index=False))
    first = f"{rows[0][1]}: {rows[0][2]}"
    return (
        f"{len(failed)} images can't be decoded, as {first} (all of them: {file}). They changed "
        "since they were validated: mend or remove them and run `dvc repro` again; what was "
        "embedded is kept"
    )


def _code() -> str:
    here = Path(__file__).parent
    return sha256_text("\n".join(sha256_of(here / name) for name in COMPUTING))
