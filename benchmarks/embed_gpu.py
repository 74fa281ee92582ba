"""What limits embedding on a GPU: images/s of each part alone, and of the whole.

Makes JPEGs of 640×480 to 1280×960 (those of `embed`) and measures, for ViT-B-32 and ViT-L-14 with
random weights, in turns on the same pictures:

forward      the image tower in bf16 on crops that lie on the GPU already
cpu, nvjpeg  decoding and resizing alone, by each decoder
plain        a DataLoader with OpenCLIP's own transform, a worker a core, bf16 autocast
ours         the embed stage's work by each decoder, from files to vectors in the cache

The slower of decoder and forward names the bottleneck. `make bench NAME=embed_gpu`, on a machine
with a GPU; CLIPTUNE_BENCH_IMAGES sets the number of images, by default 4,096.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from benchmarks.embed import Pictures, asked, make, saved, spread
from pipeline.clip import device as devices
from pipeline.clip import work
from pipeline.clip.model import Clip
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table

IMAGES = int(os.environ.get("CLIPTUNE_BENCH_IMAGES", "4096"))
MODELS = ("ViT-B-32", "ViT-L-14")
DECODERS = ("cpu", "nvjpeg")
BATCH = 256
TURNS = 3
REPEATS = 20
GOALS = {"of_forward_or_decoder": 0.85, "of_plain": 1.0}


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    if not torch.cuda.is_available():
        sys.exit("no GPU here: this measures one (make bench NAME=embed measures the CPU)")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        pairs = make(root / "source", IMAGES).drop_duplicates("image_id")
        found = {model: measure(root, model, pairs) for model in MODELS}
    goals = {
        f"{model} {key}": {
            "figure": round(figures[key], 3),
            "goal": goal,
            "met": figures[key] >= goal,
        }
        for model, figures in found.items()
        for key, goal in GOALS.items()
    }
    print(
        json.dumps(
            {"gpu": torch.cuda.get_device_name(), "cores": devices.cores(), "images": len(pairs),
             "found": found, "goals": goals}
        )
    )  # fmt: skip
    sys.exit(not all(goal["met"] for goal in goals.values()))


def measure(root: Path, architecture: str, pairs: pd.DataFrame) -> dict[str, Any]:
    """Images/s of each part and of the whole, medians of the turns."""
    folder = root / architecture
    clip = saved(architecture, folder)
    clean = root / "clean"
    clean.mkdir(exist_ok=True)
    write_table(pairs, PAIR, clean / PAIRS_FILE)
    rates: dict[str, list[float]] = {}
    for turn in range(TURNS):
        rates.setdefault("forward", []).append(forward(root, folder, architecture))
        for decoder in DECODERS:
            job = prepared(root, folder, architecture, decoder, cache=root / f"{decoder}{turn}")
            rates.setdefault(f"decoder {decoder}", []).append(decoding(job))
            rates.setdefault(f"ours {decoder}", []).append(
                len(pairs) / _seconds(lambda job=job: work._images(job, work.Share()))
            )
        rates.setdefault("plain", []).append(plain(clip, root / "source", pairs))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    ours = {decoder: middle[f"ours {decoder}"] for decoder in DECODERS}
    best = max(ours, key=lambda decoder: ours[decoder])
    decode = middle[f"decoder {best}"]
    limit = min(middle["forward"], decode)
    slower = "the forward pass" if middle["forward"] < decode else f"decoding ({best})"
    print(f"\n{architecture}: the bottleneck is {slower}")
    for what, rate in middle.items():
        print(f"  {what:<16}{rate:>10.0f} images/s")
    return {
        "images_per_second": {name: round(rate, 1) for name, rate in middle.items()},
        "bottleneck": slower,
        "of_forward_or_decoder": ours[best] / limit,
        "of_forward": ours[best] / middle["forward"],
        "of_plain": ours[best] / middle["plain"],
        "nvjpeg_of_cpu": ours["nvjpeg"] / ours["cpu"],
    }


def prepared(
    root: Path, folder: Path, architecture: str, decoder: str, *, cache: Path
) -> work.Work:
    """The stage's work on an empty cache."""
    embed, model = asked(architecture, folder, "bf16")
    embed = embed.model_copy(update={"decoder": decoder, "batch_size": BATCH})
    return work.prepare(
        root / "clean", root / "source", embed, packed=root, base=model, cpu_threads=2, cache=cache
    )


def forward(root: Path, folder: Path, architecture: str) -> float:
    """The image tower alone."""
    job = prepared(root, folder, architecture, "cpu", cache=root / "forward")
    size = job.clip.config["preprocess_cfg"]["size"]
    side = size if isinstance(size, int) else size[0]
    crops = torch.randint(0, 256, (BATCH, side, side, 3), dtype=torch.uint8, device="cuda")
    job.towers.images(crops)
    return REPEATS * BATCH / _seconds(lambda: [job.towers.images(crops) for _ in range(REPEATS)])


def decoding(job: work.Work) -> float:
    """From files to batches of crops where they are to be, and no further."""

    def all_of_them() -> None:
        with ThreadPoolExecutor(devices.cores()) as pool:
            for start in range(0, len(job.image_ids), BATCH):
                items = list(pool.map(job.pixels.decode, job.image_ids[start : start + BATCH]))
                job.pixels.join(items).to("cuda")

    return len(job.image_ids) / _seconds(all_of_them)


def plain(clip: Clip, source: Path, pairs: pd.DataFrame) -> float:
    """What a notebook would run."""
    model: Any = clip.model.to("cuda").eval()
    loader = DataLoader(
        Pictures(clip, source, pairs["file"].tolist()),
        batch_size=spread(len(pairs), workers=devices.cores(), most=BATCH),
        num_workers=devices.cores(),
        pin_memory=True,
    )

    def embedded() -> None:
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
            for batch in loader:
                model.encode_image(batch.to("cuda", non_blocking=True), normalize=True).cpu()

    seconds = _seconds(embedded)
    clip.model.to("cpu")
    return len(pairs) / seconds


def _seconds(what: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    what()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
