"""Embedding beside a plain loop over OpenCLIP, and beside the forward pass alone.

Makes JPEGs of 640×480 and larger with two captions each and embeds them with ViT-B-32 (random
weights: speed and arithmetic do not depend on them) and with the sample's small architecture:

(a) a DataLoader with OpenCLIP's own transform, two workers, fp32; texts of the full context length;
(b) `clip-retrieval inference`, where CLIP_RETRIEVAL names that command (clip_retrieval.py);
(c) the forward pass alone, on tensors in memory, in the precision that the embed stage chooses;
and the embed stage's own work: all new, one image in a hundred new, nothing new.

The turns of (a), (c) and ours alternate on the same pictures, and each figure is the median of the
turns; (b) has one turn. Some goals need a CPU with bf16 units; without them there are others.
`make bench NAME=embed`; CLIPTUNE_BENCH_IMAGES sets the number of images, by default 2,000.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks import clip_retrieval
from pipeline import params as params_of
from pipeline.artifacts import sha256_bytes
from pipeline.clip import device, work
from pipeline.clip import model as clip_model
from pipeline.clip.embed_pairs import embed_pairs
from pipeline.clip.model import Clip
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table
from pipeline.params import EmbedParams, ModelParams, Params
from pipeline.registry import bundle

IMAGES = int(os.environ.get("CLIPTUNE_BENCH_IMAGES", "2000"))
TURN = min(IMAGES // 3, 384)
"""Images of a turn of (a), (c) and ours."""

TURNS = 3
SIZES = ((640, 480), (480, 640), (800, 600), (1280, 960))
WORDS = ["a", "the", "red", "blue", "metal", "wooden", "small", "large", "star", "ring", "dog"]
THREADS = 2
MODELS = {"ViT-B-32": None, "scenes-resnet": "samples/base_model/scenes-resnet.json"}
BF16_GOALS = {"images_of_plain": 3.5, "images_of_clip_retrieval": 5.0, "texts_of_plain": 15.0}
FP32_GOALS = {"images_of_plain": 1.0, "texts_of_plain": 5.0}
GOALS = {
    "images_of_forward": 0.85,
    "least_cosine": 0.999,
    "least_cosine_fp32": 0.9999,
    "one_percent_share": 0.03,
    "memory_growth": 1.2,
    "time_growth": 1.2,
}
AT_MOST = ("one_percent_share", "memory_growth", "time_growth")


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        pairs = make(root / "source", IMAGES)
        found = {model: measure(root, model, pairs) for model in MODELS}
        found["growth"] = growth(root)
    wanted = GOALS | (FP32_GOALS if _precision() == "fp32" else BF16_GOALS)
    goals = {
        f"{name} {key}": _goal(figures[key], key, goal)
        for name, figures in found.items()
        for key, goal in wanted.items()
        if key in figures
    }
    print(json.dumps({"images": IMAGES, "precision": _precision(), "found": found, "goals": goals}))
    sys.exit(any(not goal["met"] for goal in goals.values()))


def _goal(figure: float, key: str, goal: float) -> dict[str, Any]:
    met = figure <= goal if key in AT_MOST else figure >= goal
    return {"figure": round(figure, 4), "goal": goal, "met": met}


def _precision() -> str:
    return device.precision(torch.device("cpu"), "auto")


def make(
    source: Path, count: int, sizes: tuple[tuple[int, int], ...] = SIZES, threads: int = THREADS
) -> pd.DataFrame:
    """`count` JPEGs and two captions each, as the clean stage would list them."""
    source.mkdir(parents=True, exist_ok=True)

    def one(number: int) -> tuple[str, str]:
        random = np.random.default_rng(number)
        width, height = sizes[number % len(sizes)]
        coarse = random.integers(0, 256, (height // 16, width // 16, 3)).astype(np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        file = source / f"{number:06}.jpg"
        picture.save(file, quality=90)
        return sha256_bytes(file.read_bytes()), file.name

    with ThreadPoolExecutor(threads) as pool:
        pictures = list(pool.map(one, range(count)))
    random = np.random.default_rng(0)
    captions = [
        f"{' '.join(random.choice(WORDS, random.integers(6, 13)))} {i}" for i in range(2 * count)
    ]
    ids, files = (
        [item for item in column for _ in range(2)] for column in zip(*pictures, strict=True)
    )
    return pd.DataFrame(
        {
            **{name: [None] * 2 * count for name in PAIR.names},
            "pair": range(1, 2 * count + 1), "source_row": range(1, 2 * count + 1),
            "image_id": ids, "image": files, "file": files, "packed": False,
            "caption": captions, "split": "train", "width": 640, "height": 480,
        }
    )  # fmt: skip


def measure(root: Path, architecture: str, pairs: pd.DataFrame) -> dict[str, Any]:
    """All figures of one architecture."""
    folder = root / architecture
    clip = saved(architecture, folder)
    plain: list[dict[str, float]] = []
    forward: list[dict[str, float]] = []
    ours: list[dict[str, float]] = []
    peer: list[dict[str, float]] = []
    cosines: dict[str, list[float]] = {"auto": [], "fp32": []}
    for turn in range(TURNS):
        part = pairs.iloc[2 * turn * TURN : 2 * (turn + 1) * TURN]
        # The machine's speed drifts within a turn: (a) has one half before ours, one after.
        half = len(part) // 4 * 2
        before = _plain(clip, root / "source", part.iloc[:half])
        forward.append(_forward(clip, part))
        job, rates = _ours(root, folder, architecture, pairs, part, precision="auto")
        ours.append(rates)
        after = _plain(clip, root / "source", part.iloc[half:])
        images, texts = (torch.cat([before[i], after[i]]) for i in (0, 1))
        plain.append({unit: 2 / (1 / before[2][unit] + 1 / after[2][unit]) for unit in rates})
        if MODELS[architecture] is None and not turn:  # it starts four times, a minute each
            peers = clip_retrieval.rates(
                folder / clip_model.WEIGHTS_FILE, architecture, root / "source", part
            )
            peer += [peers] if peers else []
        cosines["auto"] += _cosines(job, part, images, texts)
        if not turn:
            if _precision() != "fp32":
                job, _ = _ours(root, folder, architecture, part, part, precision="fp32")
            cosines["fp32"] += _cosines(job, part, images, texts)
    rate = {
        who: {
            unit: float(np.median([turn[unit] for turn in turns])) for unit in ("images", "texts")
        }
        for who, turns in (
            ("plain", plain), ("clip-retrieval", peer), ("forward", forward), ("ours", ours)
        )
        if turns
    }  # fmt: skip
    whole = _stage(root, folder, architecture, pairs)
    found = {
        "per_second": rate,
        "images_of_plain": _ratio(ours, plain, "images"),
        "images_of_forward": _ratio(ours, forward, "images"),
        "texts_of_plain": _ratio(ours, plain, "texts"),
        **{
            f"{unit}_of_clip_retrieval": _ratio(ours, peer, unit)
            for unit in ("images", "texts")
            if peer
        },
        "texts_of_forward": _ratio(ours, forward, "texts"),
        "least_cosine": min(cosines["auto"]),
        "least_cosine_fp32": min(cosines["fp32"]),
        **whole,
    }
    _show(architecture, found)
    return found


def _ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]], unit: str) -> float:
    """The median over the turns that both had."""
    return float(np.median([a[unit] / b[unit] for a, b in zip(ours, theirs, strict=False)]))


def _show(architecture: str, found: dict[str, Any]) -> None:
    print(f"\n{architecture}")
    for who, rates in found["per_second"].items():
        print(f"  {who:<15}{rates['images']:>9.1f} images/s{rates['texts']:>9.1f} texts/s")
    for key, value in found.items():
        if key != "per_second":
            print(f"  {key:<26}{value:>12.5f}")


def saved(architecture: str, folder: Path) -> Clip:
    """A model with random weights, in a folder as the stages load it."""
    config = MODELS.get(architecture)
    path = Path(config) if config else folder.parent / f"{architecture}.json"
    if config is None:
        path.write_text(json.dumps(clip_model.known(architecture)[0]))
    clip = clip_model.create(architecture, path, seed=0)
    bundle.save(folder, clip, record={})
    return clip_model.load(folder, architecture=architecture)


class Pictures(Dataset[torch.Tensor]):
    """What a notebook would write."""

    def __init__(self, clip: Clip, source: Path, files: list[str]) -> None:
        """The pictures `files` of a folder."""
        cfg = PreprocessCfg(**clip.config["preprocess_cfg"])
        self._transform = image_transform_v2(cfg, is_train=False)
        self._files = [source / file for file in files]

    def __len__(self) -> int:
        """How many."""
        return len(self._files)

    def __getitem__(self, number: int) -> torch.Tensor:
        """The input of the model."""
        with Image.open(self._files[number]) as picture:
            tensor: torch.Tensor = self._transform(picture)
        return tensor


def spread(pictures: int, *, workers: int, most: int) -> int:
    """The batch of a loader, `most` or fewer, such that each of its processes makes four or more.

    A process makes whole batches: with fewer batches than processes some have nothing to do, and
    with as many none works ahead.
    """
    return max(min(most, pictures // (4 * workers)), 1)


def _plain(
    clip: Clip, source: Path, part: pd.DataFrame
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    torch.set_num_threads(THREADS)
    model: Any = clip.model.eval()
    files = part["file"].drop_duplicates().tolist()
    captions = part["caption"].tolist()
    loader = DataLoader(Pictures(clip, source, files), batch_size=32, num_workers=2)
    with torch.no_grad():
        start = time.perf_counter()
        images = torch.cat([model.encode_image(batch, normalize=True) for batch in loader])
        middle = time.perf_counter()
        texts = [
            model.encode_text(clip.tokenizer(captions[i : i + 32]), normalize=True)
            for i in range(0, len(captions), 32)
        ]
        end = time.perf_counter()
    rates = {"images": len(files) / (middle - start), "texts": len(captions) / (end - middle)}
    return images, torch.cat(texts), rates


def _forward(clip: Clip, part: pd.DataFrame) -> dict[str, float]:
    """The towers of the embed stage on inputs that are there already, in its own batches."""
    towers = work.Towers(clip, device=torch.device("cpu"), precision=_precision())  # type: ignore[arg-type]
    size = clip.config["preprocess_cfg"]["size"]
    side = size if isinstance(size, int) else size[0]
    batch = work.auto_batch(clip, torch.device("cpu"))
    crops = torch.randint(0, 256, (batch.images, side, side, 3), dtype=torch.uint8)
    captions = part["caption"].tolist()
    tokens = clip.tokenizer(captions)
    lengths = np.array(towers.read_length(tokens))
    order = np.argsort(lengths, kind="stable")
    starts = range(0, len(order) - batch.texts + 1, batch.texts)
    batches = [order[i : i + batch.texts] for i in starts]
    cut = [tokens[torch.from_numpy(rows)][:, : lengths[rows].max()] for rows in batches]
    towers.images(crops)
    count = len(captions) // (2 * batch.images)
    images = _seconds(lambda: [towers.images(crops) for _ in range(count)])
    texts = _seconds(lambda: [towers.texts(rows) for rows in cut])
    return {
        "images": batch.images * count / images,
        "texts": batch.texts * len(cut) / texts,
    }


def _seconds(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def asked(architecture: str, folder: Path, precision: str) -> tuple[EmbedParams, ModelParams]:
    """The params of the embed stage for a model in `folder`."""
    defaults = params_of.load(Params)
    embed = defaults.embed.model_copy(update={"precision": precision})
    path = os.path.relpath(folder, "hub")
    return embed, defaults.model.model_copy(update={"name": architecture, "pretrained": path})


def _ours(
    root: Path,
    folder: Path,
    architecture: str,
    pairs: pd.DataFrame,
    part: pd.DataFrame,
    *,
    precision: str,
) -> tuple[work.Work, dict[str, float]]:
    """The stage's own work on the images of a part and the captions of all `pairs`.

    With an empty cache and without its start. All captions, as each length of them leaves a batch
    that is not full.
    """
    clean = root / "clean"
    clean.mkdir(exist_ok=True)
    write_table(pairs, PAIR, clean / PAIRS_FILE)
    embed, model = asked(architecture, folder, precision)
    with tempfile.TemporaryDirectory(dir=root) as cache:
        job = work.prepare(
            clean, root / "source", embed, packed=root, base=model, cpu_threads=THREADS,
            cache=Path(cache),
        )._replace(image_ids=sorted(part["image_id"].unique()))  # fmt: skip
        images = _seconds(lambda: work._images(job, work.Share()))
        texts = _seconds(lambda: work._texts(job, work.Share()))
        job.images.refresh()
        job.captions.refresh()
    return job, {"images": len(job.image_ids) / images, "texts": len(job.texts) / texts}


def _cosines(
    job: work.Work, part: pd.DataFrame, images: torch.Tensor, texts: torch.Tensor
) -> list[float]:
    first = part.drop_duplicates("image_id")
    found = job.images.take(work.as_ids(first["image_id"].tolist()))
    by_caption = {caption: text_id for text_id, caption in job.texts.items()}
    wanted = [by_caption[caption] for caption in part["caption"]]
    said = job.captions.take(work.as_ids(wanted))
    return [
        float(np.einsum("nd,nd->n", found, images.numpy()).min()),
        float(np.einsum("nd,nd->n", said, texts.numpy()).min()),
    ]


def _stage(root: Path, folder: Path, architecture: str, pairs: pd.DataFrame) -> dict[str, float]:
    """The whole stage in a process of its own: all new, one image in a hundred new, none new."""
    first = pairs.iloc[: len(pairs) // 101 * 100 // 2 * 2]
    parts = {"first": first, "one_percent": pairs, "nothing": pairs}
    seconds = {name: _child(root, folder, architecture, part)[0] for name, part in parts.items()}
    start = seconds["nothing"]
    return {
        "first_seconds": seconds["first"],
        "one_percent_seconds": seconds["one_percent"],
        "start_seconds": start,
        "one_percent_share": (seconds["one_percent"] - start) / seconds["first"],
    }


def _child(root: Path, folder: Path, architecture: str, pairs: pd.DataFrame) -> tuple[float, float]:
    """Seconds and peak bytes of the stage's one call in a process of its own.

    Bytes that only it holds and that the system can't take back, as it can a mapped file's.
    """
    clean = root / "clean"
    clean.mkdir(exist_ok=True)
    write_table(pairs, PAIR, clean / PAIRS_FILE)
    command = [sys.executable, "-m", "benchmarks.embed", "child", architecture, folder, root]
    start = time.perf_counter()
    process = psutil.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, _own(process.pid))
        except (OSError, StopIteration):
            break
        time.sleep(0.05)
    if process.wait():
        raise SystemExit("the embed stage failed")
    return time.perf_counter() - start, float(peak)


def _own(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


def child(architecture: str, folder: Path, root: Path) -> None:
    """What `_child` runs."""
    embed, model = asked(architecture, folder, "auto")
    embed_pairs(
        root / "clean", root / "source", root / "out", root / "selected", embed, packed=root,
        base=model, cpu_threads=THREADS, cache=root / "cache",
        accepted=root / "accepted.json", projection_file=root / "projection.csv",
    )  # fmt: skip


def growth(root: Path) -> dict[str, float]:
    """How memory and time grow from N small images to ten times as many, with the small model.

    The time is that which embedding takes: without that of a second run, which finds all known.
    """
    peaks, seconds, starts = [], [], []
    for count in (IMAGES, 10 * IMAGES):
        place = root / f"small{count}"
        pairs = make(place / "source", count, sizes=((160, 120),))
        took, peak = _child(place, root / "scenes-resnet", "scenes-resnet", pairs)
        peaks.append(peak)
        seconds.append(took)
        starts.append(_child(place, root / "scenes-resnet", "scenes-resnet", pairs)[0])
    found = {
        "memory_growth": peaks[1] / peaks[0],
        "time_growth": (seconds[1] - starts[1]) / (seconds[0] - starts[0]) / 10,
    }
    print(f"\n{IMAGES:,} and {10 * IMAGES:,} images: {peaks[0] / 1e6:.0f} and "
          f"{peaks[1] / 1e6:.0f} MB; seconds {seconds[0]:.1f} and {seconds[1]:.1f}, of which "
          f"nothing new {starts[0]:.1f} and {starts[1]:.1f}")  # fmt: skip
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], *map(Path, sys.argv[3:]))
    else:
        main()
