"""What looking at every image costs beyond decoding it, and what a second look costs.

Makes N photo-like JPEGs of 640×480 and about 90 kB, all of different bytes, and decodes them by a
bare loop (`Image.open` and `load`, in as many processes) and by the Inspector (decoding, hash,
signature, brightness, limits, cache), in turns of one run. Then adds 1 % and looks again; and
compares the memory for a source with that for one ten times as large.
`make bench NAME=images`; CLIPTUNE_BENCH_IMAGES sets N, by default 20,000.
"""

import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from loky.backend import get_context
from loky.process_executor import ProcessPoolExecutor as LokyExecutor
from PIL import Image

from pipeline import params as params_of
from pipeline.data.file_state import SETTLED_NS
from pipeline.data.inspection import Inspector
from pipeline.data.workers import CHUNK, ONE_THREAD, worker_count
from pipeline.params import Params

COUNT = int(os.environ.get("CLIPTUNE_BENCH_IMAGES", "20000"))
PICTURES = 400
TURNS = 20
BATCH = 250
LIMITS = params_of.load(Params).limits
GOALS = {"speed_of_bare_loop": 0.9, "second_run_share": 0.05, "memory_growth": 1.2}
"""The first at least, the others at most."""


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files = make(root, 0, COUNT)
        kilobytes = statistics.mean((root / file).stat().st_size for file in files) / 1000
        print(f"{COUNT:,} images of {kilobytes:.0f} kB, {worker_count()} processes")
        time.sleep(SETTLED_NS / 1e9)  # real sources were not written a moment ago
        bare, ours = in_turns(root, files)
        first = sum(ours)
        speed = statistics.median(b / o for b, o in zip(bare, ours, strict=True))
        more = files + make(root, COUNT, COUNT + COUNT // 100)
        time.sleep(SETTLED_NS / 1e9)
        second = timed(lambda: inspect(root, more, root / "facts.sqlite"))
        third = timed(lambda: inspect(root, more, root / "facts.sqlite"))
        small, large = (peak(root, count) for count in (COUNT // 20, COUNT // 2))
    rows = [
        ("bare decode loop", sum(bare), COUNT / sum(bare)),
        ("first look", first, COUNT / first),
        ("second look, 1 % new", second, len(more) / second),
        ("third look, none new", third, len(more) / third),
    ]
    for what, seconds, rate in rows:
        print(f"{what:<24}{seconds:>9.2f} s{rate:>10.0f} images/s")
    for process, before, after in zip(("main", "worker"), small, large, strict=True):
        print(f"{process + ' process, peak':<24}{before:>9.0f} MB{after:>10.0f} MB for ten times")
    found = {
        "speed_of_bare_loop": speed,
        "second_run_share": second / first,
        "memory_growth": max(b / a for a, b in zip(small, large, strict=True)),
    }
    scores = {
        name: {"figure": round(figure, 4), "goal": GOALS[name], "met": met(name, figure)}
        for name, figure in found.items()
    }
    print(json.dumps({"images": COUNT, "processes": worker_count(), "goals": scores}))
    sys.exit(0 if all(score["met"] for score in scores.values()) else 1)


def met(name: str, figure: float) -> bool:
    """Whether a goal is reached: speed from above, the rest from below."""
    return figure >= GOALS[name] if name == "speed_of_bare_loop" else figure <= GOALS[name]


def make(root: Path, start: int, end: int) -> list[str]:
    """Images of different bytes: a few hundred pictures, each with a comment of its own."""
    with ProcessPoolExecutor(worker_count()) as pool:
        contents = list(pool.map(photograph, range(PICTURES), chunksize=10))
    names = []
    for i in range(start, end):
        comment = f"image {i:08}".encode()
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        content = contents[i % PICTURES]
        (root / f"{i // 1000:03}").mkdir(exist_ok=True)
        names.append(f"{i // 1000:03}/{i:08}.jpg")
        (root / names[-1]).write_bytes(content[:2] + marker + content[2:])
    return names


def photograph(seed: int) -> bytes:
    """A JPEG with the detail of a photograph: soft shapes and grain."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    soft = np.asarray(shapes.resize((640, 480), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = soft + rng.integers(-16, 17, (480, 640, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return file.getvalue()


def in_turns(root: Path, files: list[str]) -> tuple[list[float], list[float]]:
    """Seconds of both ways for each part of the files, one after the other, then the other first.

    What starting the processes takes is in the Inspector's first turn and not in the loop's.
    """
    size = -(-len(files) // TURNS)
    bare: list[float] = []
    ours: list[float] = []
    pool = LokyExecutor(worker_count(), context=get_context("loky"), env=ONE_THREAD)
    list(bare_loop(pool, root, files[: 2 * CHUNK]))
    with Inspector(root, LIMITS, cache=root / "facts.sqlite") as inspector:
        for turn, start in enumerate(range(0, len(files), size)):
            part = files[start : start + size]
            requests = [(file, None, None) for file in part]
            ways: list[tuple[list[float], Callable[[], object]]] = [
                (bare, lambda part=part: list(bare_loop(pool, root, part))),
                (ours, lambda requests=requests: inspector.inspect(requests)),
            ]
            for times, way in ways if turn % 2 else reversed(ways):
                times.append(timed(way))
    pool.shutdown(kill_workers=True)
    return bare, ours


def bare_loop(pool: LokyExecutor, root: Path, files: list[str]) -> Iterator[int]:
    """Decode in chunks; the number of pixels of each chunk."""
    paths = [str(root / file) for file in files]
    chunks = [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)]
    yield from pool.map(decoded, chunks)


def decoded(paths: list[str]) -> int:
    """Decode these files and nothing else."""
    pixels = 0
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
            pixels += picture.width * picture.height
    return pixels


def inspect(root: Path, files: list[str], cache: Path | None) -> None:
    """A look at all the files by batches, as validate takes it, processes started and ended."""
    size = len(files) if cache else BATCH
    with Inspector(root, LIMITS, cache=cache) as inspector:
        for start in range(0, len(files), size):
            found = inspector.inspect([(f, None, None) for f in files[start : start + size]])
            if any(facts.problem for facts in found):
                raise AssertionError("a good image was rejected")


def timed(way: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def peak(root: Path, count: int) -> tuple[float, float]:
    """Megabytes that a look at so many images takes at most: the main process, and a worker."""
    command = [sys.executable, "-m", "benchmarks.images", str(root), str(count)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    main_kb, worker_kb = said.split()
    return int(main_kb) / 1000, int(worker_kb) / 1000


def look(root: Path, count: int) -> None:
    """Look at the first images below a folder and tell the memory that it took."""
    inspect(root, sorted(str(p.relative_to(root)) for p in root.rglob("*.jpg"))[:count], None)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        print(resource.getrusage(who).ru_maxrss)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        look(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
