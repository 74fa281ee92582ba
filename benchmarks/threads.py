"""Should a torch thread that waits spin or sleep, where two trainings share the cores?

Trains the sample's architecture on random pictures, two processes at once, with spinning and with
sleeping threads in turn (OMP_WAIT_POLICY). `make bench NAME=threads`.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEPS, TURNS, GOAL = 12, 3, 1.0
CONFIG = Path("samples/base_model/scenes-resnet.json")


def main() -> None:
    """Print seconds of each turn, then one line of JSON; exit 1 when sleeping is the slower."""
    seconds: dict[str, list[float]] = {"ACTIVE": [], "PASSIVE": []}
    for _ in range(TURNS):
        for policy, found in seconds.items():
            found.append(_together(policy))
            print(f"{policy:<8}{found[-1]:7.1f} s for 2 x {STEPS} steps", flush=True)
    ratios = [a / p for a, p in zip(seconds["ACTIVE"], seconds["PASSIVE"], strict=True)]
    ratio = statistics.median(ratios)
    print(json.dumps({"seconds": seconds, "spinning_over_sleeping": ratio, "goal": GOAL}))
    sys.exit(0 if ratio >= GOAL else 1)


def _together(policy: str) -> float:
    """Seconds until both of two trainings have taken their steps, their start not counted."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    command = [sys.executable, "-m", "benchmarks.threads", "train"]
    trainings = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    return max(float(training.communicate()[0]) for training in trainings)


def _train() -> None:
    import torch  # noqa: PLC0415 (the parent measures, and must hold no torch threads)

    from pipeline.clip import model  # noqa: PLC0415

    torch.set_num_threads(2)
    towers = model.create(CONFIG.stem, CONFIG, seed=0).model
    pixels = torch.randn(64, 3, 64, 64)
    tokens = torch.randint(1, 400, (64, towers.context_length))  # type: ignore[call-overload]
    started = time.perf_counter()
    for _ in range(STEPS):
        image, text, scale = towers(pixels, tokens)[:3]
        torch.autograd.grad((scale * image @ text.T).square().mean(), [*towers.parameters()])
    print(time.perf_counter() - started)


if __name__ == "__main__":
    _train() if sys.argv[1:] == ["train"] else main()
