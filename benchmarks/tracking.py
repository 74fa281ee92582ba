"""What tracking costs: a stage in seconds, a training step in percent.

stage  a stage that does nothing but write its metrics, as a whole process in a clone of this
       repository, through `stage_run` and without it; MLflow's import included. Into SQLite, and
       into an `mlflow server` on this machine. Stores are there before the first turn; turns
       alternate, and what is added is the median of the differences of a turn. Processor time is
       told beside it: on a machine that others use, a stage waits for a core.
step   a step of the sample's base model (forward, backward, AdamW; its batch, pictures in memory,
       so that a step is shorter than a real one), in blocks of twenty with `run.log` of what
       training logs after each step and without it. A block ends when all is sent, outside its
       steps' time.
       `caller` is the time inside `run.log`, `thread` the processor time of the thread that sends,
       `slower` by how much the median of a block's steps is above that of the block before without
       logging (the median over the blocks): each a share of a step.

`make bench NAME=tracking`. CLIPTUNE_BENCH_PARTS (stage,step), CLIPTUNE_BENCH_TURNS (5),
CLIPTUNE_BENCH_BLOCKS (8, of each kind).
"""

import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import paths

ROOT = Path(__file__).parents[1]
PARTS = os.environ.get("CLIPTUNE_BENCH_PARTS", "stage,step").split(",")
TURNS = int(os.environ.get("CLIPTUNE_BENCH_TURNS", "5"))
BLOCKS = int(os.environ.get("CLIPTUNE_BENCH_BLOCKS", "8"))
STEPS = 20
THREADS = 2
STAGE_GOAL_S = 6.0
STEP_GOAL = 0.01
CONFIG = ROOT / "samples" / "base_model" / "scenes-resnet.json"
BARE = "without tracking"
SHARES = ("caller", "thread", "slower")


def main() -> None:
    """Print tables, then one line of JSON; exit 1 when a goal is missed."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as uri:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        stores = {"SQLite": f"sqlite:///{folder}/mlflow.db", "server": uri}
        found: dict[str, Any] = {}
        goals: dict[str, Any] = {}
        if "stage" in PARTS:
            found["stage"] = stages(clone, stores)
            for what, turns in found["stage"].items():
                show_stages(what, turns)
            added = added_by(found["stage"]["seconds"], "SQLite")
            goals["stage, s"] = goal(statistics.median(added), STAGE_GOAL_S)
        if "step" in PARTS:
            found["step"] = shares = {
                name: json.loads(child(clone, "steps", store)) for name, store in stores.items()
            }
            show_steps(shares)
            for key in SHARES:
                goals[f"step, {key}"] = goal(shares["SQLite"][key], STEP_GOAL)
    print(json.dumps({"threads": THREADS, "found": found, "goals": goals}))
    sys.exit(not all(one["met"] for one in goals.values()))


def show_stages(what: str, seconds: dict[str, list[float]]) -> None:
    """Medians of the turns, what tracking adds in the median, at least and at most."""
    heads = "".join(f"{head:>8}" for head in ("median", "added", "least", "most"))
    print(f"{f'a stage that does nothing, {what}':<40}{heads}")
    for name, turns in seconds.items():
        more = added_by(seconds, name)
        figures = (statistics.median(turns), statistics.median(more), min(more), max(more))
        print(f"{name:<40}" + "".join(f"{figure:>8.2f}" for figure in figures), flush=True)


def show_steps(found: dict[str, dict[str, float]]) -> None:
    """A step's milliseconds without logging, and shares of it."""
    print(f"{'a training step, % of it':<40}{'ms':>8}" + "".join(f"{key:>8}" for key in SHARES))
    for name, one in found.items():
        figures = (1000 * one["seconds"], *(100 * one[key] for key in SHARES))
        print(f"{name:<40}" + "".join(f"{figure:>8.2f}" for figure in figures), flush=True)


def goal(figure: float, most: float) -> dict[str, Any]:
    """A figure beside what it may be at most."""
    return {"figure": round(figure, 4), "goal": most, "met": figure <= most}


def added_by(seconds: dict[str, list[float]], name: str) -> list[float]:
    """Seconds that tracking added in each turn."""
    return [with_it - bare for with_it, bare in zip(seconds[name], seconds[BARE], strict=True)]


def stages(clone: Path, stores: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    """Seconds of the process in each turn, on the clock and of processors."""
    for store in stores.values():
        child(clone, "stage", store)
    seconds: dict[str, list[float]] = {name: [] for name in (BARE, *stores)}
    busy: dict[str, list[float]] = {name: [] for name in seconds}
    child(clone, "bare", "")
    for turn in range(TURNS):
        names = list(seconds)[turn % len(seconds) :] + list(seconds)[: turn % len(seconds)]
        for name in names:
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            child(clone, "bare" if name == BARE else "stage", stores.get(name, ""))
            seconds[name].append(time.perf_counter() - began)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            busy[name].append(sum(after[:2]) - sum(before[:2]))
    return {"seconds": seconds, "processor": busy}


def child(clone: Path, what: str, store: str) -> str:
    """Run one of CHILDREN in the clone, with the code of this work tree; what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    kept |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "MLFLOW_TRACKING_URI": store}
    command = [sys.executable, "-m", "benchmarks.tracking", what]
    done = subprocess.run(
        command, cwd=clone, env=kept, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the process of {what!r} failed")
    return done.stdout


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a tracking server of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    where = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--port", str(port)]
    files = ["--artifacts-destination", str(folder / "files"), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", *where, *files]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | settings, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_for(uri: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers."""
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1).close()  # noqa: S310 - our own
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise SystemExit("mlflow server did not start")


def bare() -> None:
    """What is left of the stage without tracking."""
    from pipeline.artifacts import write_json  # noqa: PLC0415 (children measure their imports)
    from pipeline.params import CleanStage, load  # noqa: PLC0415

    load(CleanStage)
    write_json(paths.metrics_file("clean"), {"rows": 1})


def stage() -> None:
    """A stage that found one number."""
    from pipeline.params import CleanStage, load  # noqa: PLC0415
    from pipeline.tracking import stage_run  # noqa: PLC0415

    with stage_run("clean", load(CleanStage)) as run:
        run.metrics({"rows": 1})


def steps() -> None:
    """Blocks of steps with and without logging; prints the figures as JSON."""
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: PLC0415

    from pipeline.clip import model  # noqa: PLC0415
    from pipeline.params import FinetuneStage, load  # noqa: PLC0415
    from pipeline.tracking import stage_run  # noqa: PLC0415

    params = load(FinetuneStage)
    torch.set_num_threads(THREADS)
    towers = model.create(CONFIG.stem, CONFIG, seed=0).model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(towers.parameters(), lr=1e-5)
    size = int(params.finetune.batch_size)
    pixels = torch.randn(size, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    tokens = torch.randint(1, 400, (size, towers.context_length))  # type: ignore[call-overload]
    pairs = torch.arange(size)

    def step() -> float:
        image, text, scale = towers(pixels, tokens)[:3]
        logits = scale * image @ text.T
        loss = F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    names = ("lr", "grad_norm", "logit_scale", "samples_per_s", "memory_gb")
    taken: dict[bool, list[list[float]]] = {True: [], False: []}
    inside: list[float] = []
    with stage_run("finetune", params) as run:
        thread = run._sink._thread.native_id
        for _ in range(STEPS):
            step()
        busy = -_seconds_of(thread)
        for block in range(2 * BLOCKS):
            logged = block % 2 == 1
            taken[logged].append([])
            for number in range(STEPS):
                began = time.perf_counter()
                loss = step()
                if logged:
                    called = time.perf_counter()
                    run.log({"loss": loss, **dict.fromkeys(names, 0.5)}, block * STEPS + number)
                    inside.append(time.perf_counter() - called)
                taken[logged][-1].append(time.perf_counter() - began)
            run._sink.flush()
        busy += _seconds_of(thread)
        run.metrics({})
    plain, with_log = ([statistics.median(block) for block in taken[k]] for k in (False, True))
    middle = statistics.median(plain)
    found = {
        "seconds": middle,
        "caller": statistics.median(inside) / middle,
        "thread": busy / (BLOCKS * STEPS) / middle,
        "slower": statistics.median(b / a - 1 for a, b in zip(plain, with_log, strict=True)),
    }
    print(json.dumps(found))


def _seconds_of(thread: int | None) -> float:
    """Processor time that a thread of this process has taken."""
    import psutil  # noqa: PLC0415

    one = next(one for one in psutil.Process().threads() if one.id == thread)
    return one.user_time + one.system_time


CHILDREN = {"bare": bare, "stage": stage, "steps": steps}


if __name__ == "__main__":
    CHILDREN[sys.argv[1]]() if sys.argv[1:] else main()
