"""The table work on a million captions: how long, how much memory, and how both grow.

Writes a CSV of N rows, five captions a picture, most of them different and one in eight dirty, and
runs validate and clean on it, as their stages do: Great Expectations, CLIP's own tokenizer, every
default in params.yaml. What looking at images takes is left out: the pictures are small, the cache
knows them from a run before, and near-duplicate pictures are not looked for (benchmarks/images.py
and near_images.py measure those). `make bench NAME=captions`; CLIPTUNE_BENCH_CAPTIONS sets the
largest N, by default 1,000,000.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from pipeline import params as params_of
from pipeline.captions.clean import clean
from pipeline.data.facts_cache import FactsCache
from pipeline.data.file_state import SETTLED_NS
from pipeline.data.inspection import Inspector
from pipeline.params import Params
from pipeline.validation.validate import validate

LARGEST = int(os.environ.get("CLIPTUNE_BENCH_CAPTIONS", "1000000"))
SIZES = (LARGEST // 100, LARGEST // 10, LARGEST)
CAPTIONS = 5
WORDS = 30_000
DIRTY = 0.125
GOALS = {"seconds": 90.0, "gigabytes": 3.0, "power_of_n_log_n": 1.0}
SLACK = 0.05
"""By so much a fitted power may be above 1, for it is fitted to three noisy times."""

Held = Callable[[psutil.Process], int]


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    figures = []
    print(f"{'rows':>10}{'validate':>12}{'clean':>12}{'both':>12}{'peak':>12}")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            make(root / "source", size)
            know_images(root)
            found = {stage: measured(stage, root) for stage in ("validate", "clean")}
        seconds = [found[stage]["seconds"] for stage in found]
        peak = max(found[stage]["gigabytes"] for stage in found)
        print(f"{size:>10,}{seconds[0]:>10.2f} s{seconds[1]:>10.2f} s{sum(seconds):>10.2f} s"
              f"{peak:>9.2f} GB")  # fmt: skip
        figures.append({"rows": size, "seconds": sum(seconds), "gigabytes": peak, **found})
    work = [math.log(size * math.log(size)) for size in SIZES]
    spent = [math.log(figure["seconds"]) for figure in figures]
    power = float(np.polyfit(work, spent, 1)[0])
    last = {
        "seconds": figures[-1]["seconds"],
        "gigabytes": figures[-1]["gigabytes"],
        "power_of_n_log_n": power,
    }
    print(f"seconds grow as (n log n)^{power:.2f}")
    goals = {
        name: {"figure": round(figure, 3), "goal": GOALS[name], "met": met(name, figure)}
        for name, figure in last.items()
    }
    print(json.dumps({"sizes": figures, "goals": goals}))
    sys.exit(0 if all(goal["met"] for goal in goals.values()) else 1)


def met(name: str, figure: float) -> bool:
    """Whether a goal is reached."""
    return figure <= GOALS[name] + (SLACK if name.startswith("power") else 0)


def make(source: Path, rows: int) -> None:
    """A source of so many rows: captions.csv, and a small picture for each five of them."""
    source.mkdir(parents=True)
    draw = np.random.default_rng(0)
    small = source.parent / "small.jpg"
    Image.fromarray(draw.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(small, quality=50)
    content = small.read_bytes()
    images = []
    for i in range(-(-rows // CAPTIONS)):
        comment = f"image {i:08}".encode()
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        images.append(f"{i // 1000:03}/{i:08}.jpg")
        (source / images[-1]).parent.mkdir(exist_ok=True)
        (source / images[-1]).write_bytes(content[:2] + marker + content[2:])
    with (source / "captions.csv").open("w", encoding="utf-8") as file:
        header = True
        for start in range(0, rows, 100_000):
            count = min(100_000, rows - start)
            of = [images[(start + i) // CAPTIONS] for i in range(count)]
            label = draw.integers(0, 100, size=count)
            frame = pd.DataFrame({"image": of, "caption": list(written(count, draw))})
            frame.assign(label=[f"class {k}" for k in label]).to_csv(
                file, index=False, header=header
            )
            header = False


def written(count: int, draw: np.random.Generator) -> Iterator[str]:
    """Captions of 4 to 24 words, by a Zipf law; some dirty, some short ones alike."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    spelling = np.random.default_rng(1)
    words = ["".join(letters[spelling.integers(0, 26, size=spelling.integers(2, 10))])
             for _ in range(WORDS)]  # fmt: skip
    lengths = draw.integers(4, 25, size=count)
    places = np.minimum(draw.zipf(1.2, size=int(lengths.sum())), WORDS) - 1
    dirt = draw.random(count)
    at = 0
    for i in range(count):
        caption = " ".join(words[place] for place in places[at : at + lengths[i]])
        at += lengths[i]
        yield dirtied(caption, float(dirt[i]))


def dirtied(caption: str, lot: float) -> str:
    """A caption with one kind of dirt, as often as `DIRTY` says; `lot` is 0…1."""
    kinds = [
        f"<p>{caption}</p>", f"{caption} &amp; more", f"{caption} https://example.org/a?b=1",
        f"{caption} cafÃ© au lait", f"{caption}  \t {caption[:9]}", f"{caption} #one #two",
        f"{caption} | Stock Photo", f"mail me@example.org {caption}", f"{caption} 图片 Ж",
        f"{caption}, call +49 30 1234567",
    ]  # fmt: skip
    return kinds[int(lot / DIRTY * len(kinds))] if lot < DIRTY else caption


def know_images(root: Path) -> None:
    """Look at every picture once, as the run before did."""
    time.sleep(SETTLED_NS / 1e9)
    source = root / "source"
    names = sorted(str(path.relative_to(source)) for path in source.glob("*/*.jpg"))
    with Inspector(source, params_of.load(Params).limits, cache=root / "facts") as inspector:
        inspector.inspect([(name, None, None) for name in names])
    FactsCache(root / "facts").close()


def resident(process: psutil.Process) -> int:
    """Bytes of a process that are in memory."""
    return int(process.memory_info().rss)


def measured(stage: str, root: Path, held: Held = resident) -> dict[str, float]:
    """Seconds of the stage's work, in a process of its own, and its peak with its children, GB."""
    command = [sys.executable, "-m", "benchmarks.captions", stage, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = [0]
        watcher = threading.Thread(target=watch, args=(process.pid, peak, held))
        watcher.start()
        told = process.communicate()[0]
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{stage} failed")
    return {"seconds": float(told.split()[-1]), "gigabytes": peak[0] / 1e9}


def watch(pid: int, peak: list[int], held: Held) -> None:
    """Keep the most memory that a process and its children held at once."""
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            everyone = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(map(held, everyone)))
            time.sleep(0.02)
    except (psutil.Error, OSError):  # it has ended
        return


def run(stage: str, root: Path) -> None:
    """Do a stage's work and print the seconds it took."""
    params = params_of.load(Params)
    if stage == "validate":
        import open_clip  # noqa: PLC0415  (clean runs without torch, and is measured so)

        from pipeline.clip.tokens import TokenCounter  # noqa: PLC0415

        counter = TokenCounter(open_clip.get_tokenizer("ViT-B-32"))
        start = time.perf_counter()
        told: dict[str, Any] = validate(
            params.data.model_copy(update={"source": str(root / "source")}),
            params.limits,
            count_tokens=counter.count,
            token_limit=counter.limit,
            folder=root / "valid",
            packed=root / "packed",
            quality=root / "quality",
            accepted=Path("data/accepted.json"),
            cache=root / "facts",
        )
    else:
        aside = params.clean.near_images.model_copy(update={"find": False})
        start = time.perf_counter()
        without = params.clean.model_copy(update={"near_images": aside})
        told = clean(root / "valid", root / "clean", without, seed=params.seed)
    seconds = time.perf_counter() - start
    print(json.dumps(told))
    print(seconds)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
